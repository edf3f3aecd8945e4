"""The trained networks: loading, saving, predicting."""
