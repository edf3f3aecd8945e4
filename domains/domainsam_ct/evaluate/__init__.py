"""Evaluation of organ masks: scores, tables, reports."""
