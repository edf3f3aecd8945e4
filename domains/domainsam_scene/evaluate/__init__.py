"""Evaluation of scene models: scores, tables, reports."""
