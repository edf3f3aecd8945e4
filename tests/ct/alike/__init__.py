"""Tests of organs by what was shown."""
