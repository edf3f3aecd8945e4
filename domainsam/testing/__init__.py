"""Contracts and generated data for the tests of domainsam and of packs."""
