"""The ``domainsam`` command."""

from __future__ import annotations


def main() -> None:
    """Entry point of the ``domainsam`` command."""
    raise SystemExit("domainsam: the command line is not built yet")
