"""Image encoders of foundations, one module each."""
