"""Fixtures of the CT pack's tests."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from domainsam_cli import main
from tests.ct.standin import DensityModel


@pytest.fixture
def density_model(monkeypatch: pytest.MonkeyPatch) -> DensityModel:
    """The stand-in, which every run of a test loads instead of the model inside the package."""
    from domainsam_ct import segment as pipeline

    model = DensityModel()
    monkeypatch.setattr(pipeline, "load_chosen_model", lambda options: model)
    monkeypatch.setattr(pipeline, "read_model_labels", lambda path: model.labels)
    return model


@pytest.fixture
def ct_segment(density_model: DensityModel) -> Callable[..., int]:
    """``domainsam ct segment`` with the stand-in."""
    return lambda *arguments: main(["ct", "segment", *map(str, arguments)])
