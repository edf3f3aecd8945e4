"""Bringing years onto common ground."""
