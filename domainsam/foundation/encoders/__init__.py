"""Image encoders: a module each."""
