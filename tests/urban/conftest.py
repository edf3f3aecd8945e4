"""Fixtures of the urban pack's tests."""

from __future__ import annotations

import pytest

from domainsam_urban.model.settlement import SettlementModel


@pytest.fixture(scope="session")
def model() -> SettlementModel:
    """A model without training; see :mod:`tests.urban.tiny`."""
    from tests.urban.tiny import tiny_model

    return tiny_model()
