"""What is done to masks and measured on them."""
