"""Evaluation of settlement maps: scores, tables, reports."""
