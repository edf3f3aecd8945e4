"""Measure change: objects, areas, intervals, error-adjusted estimates."""
