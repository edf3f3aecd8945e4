"""EfficientSAM's prompts: six slots, no points outside, no masks; the rest is refused or told."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch

from domainsam.errors import InputError
from domainsam.foundation.efficient import SPECS
from domainsam.foundation.efficientsam import EfficientSamFoundation
from domainsam.foundation.encoders.efficientsam import GRID, PATCH, EfficientSamEncoder
from domainsam.foundation.export import trace
from domainsam.prompts import PromptSet
from domainsam.protocols import Features
from domainsam.testing.contracts import make_images
from tests.core.generalists import random_network
from tests.core.runtimes import need_runtime

SIZE = (64, 96)


@pytest.fixture(scope="module")
def foundation() -> EfficientSamFoundation:
    return EfficientSamFoundation(random_network("efficientsam_ti"), SPECS["efficientsam_ti"])


@pytest.fixture(scope="module")
def features(foundation: EfficientSamFoundation) -> Features:
    return foundation.encode(make_images(1, SIZE))


def one(
    points: list[tuple[float, float, float]] | None = None, box: tuple[float, ...] | None = None
) -> PromptSet:
    return PromptSet(
        image_index=torch.zeros(1, dtype=torch.int64),
        labels=torch.ones(1, dtype=torch.int64),
        scores=torch.ones(1),
        points=None if points is None else torch.tensor([points]),
        boxes=None if box is None else torch.tensor([box]),
    )


def test_points_outside_are_refused(foundation: EfficientSamFoundation, features: Features) -> None:
    with pytest.raises(InputError, match="efficientsam_ti knows no points outside an object") as caught:
        foundation.decode(features, one([(10, 10, 1), (40, 40, 0)]))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("count", "box"), [(7, None), (5, (4.0, 4.0, 60.0, 60.0))])
def test_a_seventh_point_is_refused_and_a_box_counts_as_two(
    foundation: EfficientSamFoundation, features: Features, count: int, box: tuple[float, ...] | None
) -> None:
    points = [(5.0 + number, 8.0, 1.0) for number in range(count)]
    with pytest.raises(InputError, match="prompt of 7 points, a box counting as two; it holds at most 6"):
        foundation.decode(features, one(points, box))
    assert foundation.embed(one(points[:-1], box), SIZE).shape == (1, 6, 256)


def test_padding_takes_no_part_wherever_it_stands(foundation: EfficientSamFoundation) -> None:
    plain = foundation.embed(one([(10, 10, 1), (20, 30, 1)]), SIZE)
    padding = [(3.0, 3.0, -1.0)] * 5
    mixed = foundation.embed(one([*padding, (10, 10, 1), *padding, (20, 30, 1)]), SIZE)
    assert torch.equal(plain, mixed)
    assert torch.equal(plain[0, 2], plain[0, 5])
    assert not torch.equal(plain[0, 1], plain[0, 2])


def test_a_mask_beside_a_box_is_told_once_and_alone_refused(
    foundation: EfficientSamFoundation, features: Features, caplog: pytest.LogCaptureFixture
) -> None:
    box = one(box=(10.0, 10.0, 50.0, 50.0))
    logits = torch.randn(1, 1, SIZE[0] // 4, SIZE[1] // 4)
    foundation._told = False
    with caplog.at_level(logging.WARNING):
        with_mask = foundation.decode(features, box.replace(mask_logits=logits))
        foundation.decode(features, box.replace(mask_logits=logits))
    assert caplog.text.count("efficientsam_ti knows no mask prompts") == 1
    assert torch.equal(with_mask.logits, foundation.decode(features, box).logits)
    with pytest.raises(InputError, match="knows no mask prompts: give a box or points"):
        foundation.decode(features, one().replace(mask_logits=logits))


def test_positions_are_enlarged_without_antialiasing() -> None:
    encoder = EfficientSamEncoder(32, 2, depth=0).eval()
    encoder.neck = torch.nn.Sequential()
    images = torch.zeros(1, 3, 2 * GRID * PATCH, 2 * GRID * PATCH)
    with torch.no_grad():
        before = encoder(images)
        encoder.pos_embed[0, 1 + 7 * GRID + 7, 0] += 1
        change = (encoder(images) - before)[0, 0]
    # Plain bicubic (a = -0.75) a quarter away: 1.25 d^3 - 2.25 d^2 + 1. With antialiasing 0.867^2.
    assert float(change[14, 14]) == pytest.approx(0.87890625**2, abs=1e-5)


def test_a_graph_made_with_one_image_takes_two(tmp_path: Path) -> None:
    """A length that Python reads while a graph is made stays in it as a constant."""
    need_runtime("onnx")
    import onnxruntime

    encoder = EfficientSamEncoder(48, 3, depth=1).eval()
    images, path = make_images(2, SIZE), tmp_path / "encoder.onnx"
    trace(encoder, {"images": images[:1]}, ("features",), {"images": {0: "n"}, "features": {0: "n"}}, path)
    (found,) = onnxruntime.InferenceSession(path).run(None, {"images": images.numpy()})
    with torch.inference_mode():
        torch.testing.assert_close(torch.from_numpy(found), encoder(images), atol=1e-4, rtol=1e-4)
