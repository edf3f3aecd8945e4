"""Learning from labels of one's own."""
