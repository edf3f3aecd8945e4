"""The organ model: network, loading, saving, prediction."""
