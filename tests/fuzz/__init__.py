"""Fuzz every reader: ``python -m tests.fuzz --minutes 5 --seed 1``; see :mod:`tests.fuzz.__main__`."""
