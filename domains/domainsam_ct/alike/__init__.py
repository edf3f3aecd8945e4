"""Organs by what was shown: an organ marked on a slice through its volume, or found in another."""
