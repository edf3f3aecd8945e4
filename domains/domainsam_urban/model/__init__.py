"""The settlement model and the classifier of empty ground: loading and saving."""
