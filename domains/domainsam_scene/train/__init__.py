"""Training of scene models on labelled samples."""
