"""Every kind of foundation passes the contract, with random weights and small sizes."""

from __future__ import annotations

import pytest
import torch

from domainsam.foundation import load_foundation
from domainsam.foundation.decoders.compact import CompactSam
from domainsam.foundation.efficient import SPECS, EfficientFoundation
from domainsam.foundation.efficientsam import EfficientSamFoundation
from domainsam.foundation.embedded import EmbeddedFoundation
from domainsam.foundation.sam import SamFoundation, SamNetwork, SamSize
from domainsam.foundation.sam2 import Sam2Foundation
from domainsam.protocols import Foundation
from domainsam.testing.contracts import FoundationContract
from tests.core.generalists import random_network
from tests.core.official import official_sam2

NARROW = SamSize(width=32, depth=2, heads=2, global_blocks=(1,), image_size=128, window=3)


@pytest.fixture(scope="module")
def embedded() -> EmbeddedFoundation:
    torch.manual_seed(0)
    return EmbeddedFoundation(CompactSam(), image_size=64)


@pytest.fixture(scope="module")
def sam() -> SamFoundation:
    torch.manual_seed(0)
    return SamFoundation(SamNetwork(NARROW), "sam_narrow", NARROW.image_size)


@pytest.fixture(scope="module")
def sam_bfloat16() -> SamFoundation:
    torch.manual_seed(0)
    return SamFoundation(SamNetwork(NARROW), "sam_narrow", NARROW.image_size, torch.bfloat16)


@pytest.fixture(scope="module")
def sam2() -> Sam2Foundation:
    return Sam2Foundation(official_sam2(), "sam2.1_hiera_tiny")


@pytest.fixture(scope="module")
def efficient() -> dict[str, Foundation]:
    """One of each kind, with random weights."""
    names = ("efficientvit_sam_l0", "edge_sam", "lightening")
    made: dict[str, Foundation] = {
        name: EfficientFoundation(random_network(name), SPECS[name]) for name in names
    }
    points_only, mobile = "efficientsam_ti", "mobile_sam"
    made[points_only] = EfficientSamFoundation(random_network(points_only), SPECS[points_only])
    made[mobile] = EfficientFoundation(random_network(mobile), SPECS[mobile], torch.bfloat16)
    return made


class TestFake(FoundationContract):
    @pytest.fixture
    def foundation(self) -> Foundation:
        return load_foundation("fake")


class TestEmbedded(FoundationContract):
    @pytest.fixture
    def foundation(self, embedded: EmbeddedFoundation) -> Foundation:
        return embedded


class TestSam(FoundationContract):
    @pytest.fixture
    def foundation(self, sam: SamFoundation) -> Foundation:
        return sam


class TestSamInBfloat16(FoundationContract):
    tolerance = 0.03  # bfloat16 carries 8 bits, and a sum's order depends on the batch.

    @pytest.fixture
    def foundation(self, sam_bfloat16: SamFoundation) -> Foundation:
        return sam_bfloat16


class TestSam2(FoundationContract):
    @pytest.fixture
    def foundation(self, sam2: Sam2Foundation) -> Foundation:
        return sam2


class TestEfficientSam(FoundationContract):
    understands = ("points", "boxes")

    @pytest.fixture
    def foundation(self, efficient: dict[str, Foundation]) -> Foundation:
        return efficient["efficientsam_ti"]


class TestEfficientVitSam(FoundationContract):
    @pytest.fixture
    def foundation(self, efficient: dict[str, Foundation]) -> Foundation:
        return efficient["efficientvit_sam_l0"]


class TestEdgeSam(FoundationContract):
    @pytest.fixture
    def foundation(self, efficient: dict[str, Foundation]) -> Foundation:
        return efficient["edge_sam"]


class TestMobileSamInBfloat16(FoundationContract):
    tolerance = 0.05  # bfloat16 carries 8 bits, and a sum's order depends on the batch.

    @pytest.fixture
    def foundation(self, efficient: dict[str, Foundation]) -> Foundation:
        return efficient["mobile_sam"]


class TestLightening(FoundationContract):
    @pytest.fixture
    def foundation(self, efficient: dict[str, Foundation]) -> Foundation:
        return efficient["lightening"]
