"""Segmentation metrics with confidence intervals."""
