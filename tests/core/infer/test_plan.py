"""Which object is prompted where, and how its masks are put together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from domainsam.infer.components import find_components
from domainsam.infer.decode import Decoded, ObjectBand, edge_share, sigmoid
from domainsam.infer.decoders import read_log_odds, upsample_part
from domainsam.infer.networks import upsample
from domainsam.infer.plan import MARGIN_LEAST, MOST_LAYERS, CropPrompt, Plan, Spot, plan_prompts
from domainsam.infer.store import RawRaster
from domainsam.infer.tiling import Lattice
from domainsam.protocols import SceneObject, Window

FIELD = 128


def plan_of(folder: Path, values: NDArray[np.uint8]) -> tuple[Plan, Lattice]:
    lattice = Lattice.cover((values.shape[0], values.shape[1]), FIELD)
    with RawRaster.create(folder / "scene.u8", (values.shape[0], values.shape[1])) as store:
        store.write(Window(0, 0, *values.shape), values)
        return plan_prompts(find_components(store, 127, lattice), lattice), lattice


def prompts_of(plan: Plan) -> list[tuple[Spot, CropPrompt]]:
    return [(spot, prompt) for spot, prompts in plan.items() for prompt in prompts]


@pytest.mark.parametrize("place", [(0, 0), (50, 60), (95, 33), (266, 369), (130, 62)])
def test_a_small_object_is_prompted_once_wherever_it_lies(tmp_path: Path, place: tuple[int, int]) -> None:
    values = np.zeros((300, 400), dtype=np.uint8)
    values[place[0] : place[0] + 34, place[1] : place[1] + 31] = 200
    plan, lattice = plan_of(tmp_path, values)
    [(spot, prompt)] = prompts_of(plan)
    assert prompt.whole
    assert prompt.box == Window(*place, 34, 31)
    crop = lattice.crop(spot[1], spot[2])
    assert crop.row <= prompt.limit.row
    assert crop.col <= prompt.limit.col
    assert prompt.limit.row + prompt.limit.height <= crop.row + crop.height
    assert prompt.limit.col + prompt.limit.width <= crop.col + crop.width
    assert prompt.limit.row == max(0, place[0] - MARGIN_LEAST)


def test_a_large_object_is_prompted_wherever_it_is(tmp_path: Path) -> None:
    values = np.zeros((500, 600), dtype=np.uint8)
    values[20:480, 30:60] = 200
    values[450:480, 30:570] = 200
    plan, lattice = plan_of(tmp_path, values)
    parts = prompts_of(plan)
    assert len(parts) > 10
    covered = np.zeros(values.shape, dtype=bool)
    for spot, prompt in parts:
        assert not prompt.whole
        crop = lattice.crop(spot[1], spot[2])
        inside = np.zeros(values.shape, dtype=bool)
        inside[crop.slices] = values[crop.slices] > 0
        rows, cols = np.nonzero(inside)
        # The box is that of the object's pixels in the crop, not that of the whole object.
        assert prompt.box == Window(rows.min(), cols.min(), int(np.ptp(rows)) + 1, int(np.ptp(cols)) + 1)
        assert prompt.area == rows.size
        covered |= inside
    assert covered.sum() == (values > 0).sum()
    # The middle of the L is empty ground: no crop there.
    assert not any(100 < spot[0] < 250 and spot[1] > 200 for spot, _ in parts)


def test_large_objects_that_meet_lie_in_different_layers(tmp_path: Path) -> None:
    values = np.zeros((500, 900), dtype=np.uint8)
    for left in (20, 60):  # two frames, one around the other: their boxes overlap everywhere
        values[left : 500 - left, left : 460 - left] = 200
        values[left + 12 : 488 - left, left + 12 : 448 - left] = 0
    values[20:480, 700:712] = 200  # a third, far from both
    plan, _ = plan_of(tmp_path, values)
    layers: dict[int, set[int]] = {}
    for _, prompt in prompts_of(plan):
        assert not prompt.whole
        layers.setdefault(prompt.id, set()).add(prompt.layer)
    assert all(len(found) == 1 for found in layers.values())
    assert sorted(found.pop() for found in layers.values()) == [0, 0, 1]


def test_entangled_objects_take_a_bounded_number_of_layers(tmp_path: Path) -> None:
    values = np.zeros((400, 400), dtype=np.uint8)
    values[::20, 5:395] = 200  # twenty long stripes, each within the margins of its neighbours
    plan, _ = plan_of(tmp_path, values)
    used = {prompt.layer for _, prompt in prompts_of(plan)}
    assert used == set(range(len(used)))
    assert 1 < len(used) <= MOST_LAYERS


def test_part_of_an_upsampled_map_equals_the_whole_one() -> None:
    logits = torch.randn(32, 24, generator=torch.Generator().manual_seed(0))
    whole = upsample(logits[None, None], (128, 96))[0, 0].numpy()
    crop = Window(64, 32, 128, 96)
    for part in (
        Window(64, 32, 128, 96),
        Window(71, 45, 30, 17),
        Window(150, 100, 42, 28),
        Window(64, 127, 1, 1),
    ):
        expected = whole[
            part.row - 64 : part.row - 64 + part.height, part.col - 32 : part.col - 32 + part.width
        ]
        np.testing.assert_allclose(upsample_part(logits, crop, part), expected, atol=1e-6)


def test_scene_log_odds_leave_missing_pixels_out(tmp_path: Path) -> None:
    values = np.full((8, 8), 127, dtype=np.uint8)
    values[:4, :4] = 255
    values[0, 4] = 255
    values[4:, 4:] = 254
    with RawRaster.create(tmp_path / "a.u8", (8, 8)) as store:
        store.write(Window(0, 0, 8, 8), values)
        odds = read_log_odds(store, [Window(0, 0, 8, 12)])
    assert odds.shape == (1, 1, 2, 3)
    certain = float(np.log((254 - 0.5) / 0.5))
    expected = [[-certain, 0, -certain], [0, certain, -certain]]
    np.testing.assert_allclose(odds[0, 0].numpy(), expected, atol=1e-4)


def decoded(limit: Window, logit: float, whole: bool, layer: int = 0) -> Decoded:
    logits = np.full((limit.height, limit.width), logit, dtype=np.float32)
    return Decoded(CropPrompt(1, 0.8, limit, limit, 1, whole, layer), logits, 0.9)


def test_objects_combine_by_maximum_and_the_rest_keeps_its_coarse_probability(tmp_path: Path) -> None:
    before = np.tile(np.array([10, 126, 127, 200, 255], dtype=np.uint8), (64, 16))[:, :64]
    with RawRaster.create(tmp_path / "a.u8", (64, 64)) as store:
        store.write(Window(0, 0, 64, 64), before)
        band = ObjectBand(64, (0, 64))
        crop = Window(0, 0, 64, 64)
        band.add(crop, decoded(Window(0, 0, 20, 20), 2.0, whole=True), store)
        band.add(crop, decoded(Window(10, 10, 20, 20), -1.0, whole=True), store)
        band.add(crop, decoded(Window(0, 40, 64, 24), 3.0, whole=False), store)
        band.add(Window(0, 16, 64, 64), decoded(Window(0, 40, 64, 24), 3.0, whole=False), store)
        (found,) = band.finish(64, store, 127)
    assert ((found == 255) == (before == 255)).all()
    seen = before != 255
    high, low, large = (
        round(254 * float(sigmoid(np.full(1, logit, np.float32))[0])) for logit in (2.0, -1.0, 3.0)
    )
    assert set(found[:20, :20][seen[:20, :20]]) == {high}
    assert set(found[20:30, 20:30][seen[20:30, 20:30]]) == {low}
    assert set(found[:, 40:][seen[:, 40:]]) == {large}
    assert set(found[40:, :40][seen[40:, :40]]) == {10, 126, 127, 200}


@pytest.mark.parametrize("order", [1, -1])
def test_parts_of_one_object_are_averaged_and_other_objects_do_not_dilute_them(
    tmp_path: Path, order: int
) -> None:
    scene = Window(0, 0, 64, 64)
    parts = [
        (scene, decoded(scene, 2.0, whole=False, layer=0)),
        (scene, decoded(scene, 1.0, whole=False, layer=0)),
        # Another large object's box covers the same ground, and its mask says: not mine.
        (scene, decoded(scene, -9.0, whole=False, layer=1)),
    ]
    with RawRaster.create(tmp_path / "a.u8", (64, 64)) as store:
        store.write(scene, np.full((64, 64), 130, dtype=np.uint8))
        band = ObjectBand(64, (0, 64), layers=2)
        for crop, part in parts[::order]:
            band.add(crop, part, store)
        (found,) = band.finish(64, store, 127)
    assert set(found.ravel()) == {round(254 * float(sigmoid(np.full(1, 1.5, np.float32))[0]))}


@pytest.mark.parametrize("whole", [True, False])
def test_no_edge_of_a_box_shows(tmp_path: Path, whole: bool) -> None:
    """Between box and limit the answer goes over into the coarse probability, step by small step."""
    box, limit = Window(24, 24, 16, 16), Window(8, 8, 48, 48)
    logits = np.full((48, 48), 3.0, dtype=np.float32)
    part = Decoded(CropPrompt(1, 0.8, box, limit, 256, whole), logits, 0.9)
    with RawRaster.create(tmp_path / "a.u8", (64, 64)) as store:
        store.write(Window(0, 0, 64, 64), np.full((64, 64), 40, dtype=np.uint8))
        band = ObjectBand(64, (0, 64))
        band.add(Window(0, 0, 64, 64), part, store)
        (found,) = band.finish(64, store, 127)
    steps = found.astype(int)
    assert set(steps[24:40, 24:40].ravel()) == {round(254 / (1 + np.exp(-3)))}
    assert (steps[:8] == 40).all()
    # 202 levels over 16 pixels; a smooth step is nowhere steeper than 1.5 times the mean.
    steepest = max(int(np.abs(np.diff(steps, axis=axis)).max()) for axis in (0, 1))
    assert 202 / 16 < steepest <= 202 / 16 * 1.5 + 1


def test_what_a_person_marked_has_no_soft_edge() -> None:
    box, limit = Window(24, 24, 16, 16), Window(8, 8, 48, 48)
    mark = SceneObject.marked(box=(24.0, 24.0, 40.0, 40.0))
    assert (edge_share(CropPrompt(1, 1.0, box, limit, 256, True, mark=mark)) == 1).all()
    # Nor has a side at which the scene ends.
    cut = edge_share(CropPrompt(1, 1.0, Window(0, 24, 16, 16), Window(0, 8, 32, 48), 256, True))
    assert (cut[0, 16:32] == 1).all()
    assert cut[-1].max() < 0.01
