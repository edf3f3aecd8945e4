"""Training of the organ model on labelled cases."""
