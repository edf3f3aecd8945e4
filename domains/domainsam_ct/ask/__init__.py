"""Organs that words mean, as a language model sees slices: asked for, joined into one organ, painted."""
