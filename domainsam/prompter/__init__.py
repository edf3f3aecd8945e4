"""Specialists that say what to look for."""
