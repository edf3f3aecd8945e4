"""Settlements over the years: a common ground, change objects, areas with their uncertainty, a report."""
