"""Align years: shifts, warping and smoothing on the common ground."""
