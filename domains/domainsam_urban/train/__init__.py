"""Training of the settlement model and the classifier on labelled scenes."""
