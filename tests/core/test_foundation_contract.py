"""Every kind of foundation passes the contract, with random weights and small sizes."""

from __future__ import annotations

import pytest
import torch

from domainsam.foundation import load_foundation
from domainsam.foundation.compact import CompactSam
from domainsam.foundation.embedded import EmbeddedFoundation
from domainsam.foundation.sam import SamFoundation, SamNetwork, SamSize
from domainsam.protocols import Foundation
from domainsam.testing.contracts import FoundationContract
from tests.core.official import narrow_sam2

NARROW = SamSize(width=32, depth=2, heads=2, global_blocks=(1,), image_size=128, window=3)


def seeded(seed: int = 0) -> None:
    torch.manual_seed(seed)


class TestFake(FoundationContract):
    @pytest.fixture(scope="class")
    def foundation(self) -> Foundation:
        return load_foundation("fake")


class TestEmbedded(FoundationContract):
    @pytest.fixture(scope="class")
    def foundation(self) -> Foundation:
        seeded()
        return EmbeddedFoundation(CompactSam(), image_size=64)


class TestSam(FoundationContract):
    @pytest.fixture(scope="class")
    def foundation(self) -> Foundation:
        seeded()
        return SamFoundation(SamNetwork(NARROW), "sam_narrow", NARROW.image_size)


class TestSamInBfloat16(TestSam):
    tolerance = 0.03  # bfloat16 carries 8 bits, and a sum's order depends on the batch.

    @pytest.fixture(scope="class")
    def foundation(self) -> Foundation:
        seeded()
        return SamFoundation(SamNetwork(NARROW), "sam_narrow", NARROW.image_size, torch.bfloat16)


class TestSam2(FoundationContract):
    @pytest.fixture(scope="class")
    def foundation(self) -> Foundation:
        return narrow_sam2()
