"""Every kind of foundation passes the contract, with random weights and small sizes."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

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
def efficient() -> Callable[[str], Foundation]:
    """A generalist by name with random weights, made when it is asked for."""

    @cache
    def make(name: str) -> Foundation:
        network, spec = random_network(name), SPECS[name]
        if name.startswith("efficientsam"):
            return EfficientSamFoundation(network, spec)
        return EfficientFoundation(network, spec, torch.bfloat16 if name == "mobile_sam" else torch.float32)

    return make


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
    def foundation(self, efficient: Callable[[str], Foundation]) -> Foundation:
        return efficient("efficientsam_ti")


class TestEfficientVitSam(FoundationContract):
    @pytest.fixture
    def foundation(self, efficient: Callable[[str], Foundation]) -> Foundation:
        return efficient("efficientvit_sam_l0")


@pytest.mark.slow
class TestEdgeSam(FoundationContract):
    @pytest.fixture
    def foundation(self, efficient: Callable[[str], Foundation]) -> Foundation:
        return efficient("edge_sam")


@pytest.mark.slow
class TestMobileSamInBfloat16(FoundationContract):
    tolerance = 0.05  # bfloat16 carries 8 bits, and a sum's order depends on the batch.

    @pytest.fixture
    def foundation(self, efficient: Callable[[str], Foundation]) -> Foundation:
        return efficient("mobile_sam")


@pytest.mark.slow
class TestLightening(FoundationContract):
    @pytest.fixture
    def foundation(self, efficient: Callable[[str], Foundation]) -> Foundation:
        return efficient("lightening")
