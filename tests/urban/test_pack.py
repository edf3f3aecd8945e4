"""The urban pack keeps to the contract of all packs."""

from __future__ import annotations

from domainsam.testing.contracts import PackContract


class TestUrban(PackContract):
    name = "urban"
