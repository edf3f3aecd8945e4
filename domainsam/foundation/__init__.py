"""Frozen generalists behind one interface."""
