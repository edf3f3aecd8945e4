"""How good an answer is, with its uncertainty."""
