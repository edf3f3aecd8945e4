"""A small specialist, a foundation and images."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from domainsam.foundation.fake import FakeFoundation
from domainsam.prompter.segformer import SegFormerPrompter


@pytest.fixture(scope="module")
def prompter() -> SegFormerPrompter:
    torch.manual_seed(0)
    return SegFormerPrompter().eval()


@pytest.fixture(scope="module")
def foundation() -> FakeFoundation:
    return FakeFoundation()


@pytest.fixture
def images() -> Tensor:
    return torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(1))
