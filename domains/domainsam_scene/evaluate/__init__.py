"""Judging masks against truth: scores, tables, reports."""
