"""The pack keeps the contract of packs."""

from __future__ import annotations

from domainsam.packs import load_pack
from domainsam.testing.contracts import PackContract
from domainsam_scene.generated.scenes import CLASSES


class TestScenePack(PackContract):
    name = "scene"


def test_labels_are_those_of_the_generated_scenes() -> None:
    assert load_pack("scene").labels == CLASSES
