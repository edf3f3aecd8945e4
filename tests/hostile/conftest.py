"""The CT pack's stand-in for the tests of what leaves it."""

from __future__ import annotations

from tests.ct.conftest import ct_segment, density_model

__all__ = ["ct_segment", "density_model"]
