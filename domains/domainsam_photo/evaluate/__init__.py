"""Scores on published layouts and on folders of one's own."""
