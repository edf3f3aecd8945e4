"""Fixtures of the scene pack's tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from domainsam_cli import main
from domainsam_scene import segment as pipeline
from domainsam_scene.generated.files import write_samples
from domainsam_scene.generated.scenes import CLASSES
from domainsam_scene.model import scene as scene_model
from tests.scene.tiny import TinyModel


@pytest.fixture
def use_model(monkeypatch: pytest.MonkeyPatch) -> Callable[[TinyModel], TinyModel]:
    """Puts a model without a network in place of the one that would be loaded."""

    def use(model: TinyModel) -> TinyModel:
        for module in (scene_model, pipeline):
            monkeypatch.setattr(module, "load_model", lambda *arguments: model)
        return model

    return use


@pytest.fixture
def scene(use_model: Callable[[TinyModel], TinyModel]) -> Callable[..., int]:
    """``domainsam scene`` with a tiny model that knows the generated classes."""
    use_model(TinyModel(labels=CLASSES))
    return lambda *arguments: main(["scene", *map(str, arguments)])


@pytest.fixture(scope="session")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three generated scenes in the plain layout; read only."""
    root = tmp_path_factory.mktemp("scenes")
    write_samples(root, 3, 64)
    return root
