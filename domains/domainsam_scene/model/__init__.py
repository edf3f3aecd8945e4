"""The scene model: network, loading, saving, prediction."""
