"""Which pictures teach and which judge, and what is said of those that cannot be used."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from domainsam.distil.pictures import Views, choose_held_back, find_material
from domainsam.errors import ConfigError, InputError, MissingInputError
from tests.core.distil.tiny import SIDE, write_pictures


def test_equal_pictures_stay_on_one_side_and_names_do_not_matter(tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "a", 10)
    shutil.copy(folder / "0.png", folder / "copy.png")
    (folder / "deep").mkdir()
    shutil.move(folder / "1.png", folder / "deep" / "other.PNG")
    (folder / ".hidden").mkdir()
    shutil.copy(folder / "2.png", folder / ".hidden" / "x.png")
    shutil.copy(folder / "2.png", folder / "2_mask.png")
    found = find_material(folder, SIDE, "longest", 0.2)
    assert len(found.learning) + len(found.held_back) == 11
    assert not {one.digest for one in found.learning} & {one.digest for one in found.held_back}
    assert len({one.digest for one in found.held_back}) == 2
    plain = find_material(write_pictures(tmp_path / "b", 10), SIDE, "longest", 0.2)
    assert {one.digest for one in plain.held_back} == {one.digest for one in found.held_back}
    assert found.notes == ()


def test_at_least_one_picture_teaches_and_one_judges() -> None:
    names = ["c", "a", "b"]
    assert choose_held_back(names, 0.1) == {"a"}
    assert choose_held_back(names, 0.99) == {"a", "b"}
    assert choose_held_back(names, 0.0) == set()
    assert choose_held_back(["a"], 0.5) == set()


def test_one_picture_is_enough_but_nobody_judges(tmp_path: Path) -> None:
    found = find_material(write_pictures(tmp_path, 1), SIDE, "longest")
    assert (len(found.learning), found.held_back) == (1, ())
    assert "no picture is held back" in found.notes[0]


def test_tiny_narrow_and_damaged_pictures_are_left_out_and_told(tmp_path: Path) -> None:
    folder = write_pictures(tmp_path, 3)
    Image.new("RGB", (1, 1)).save(folder / "a.png")
    Image.new("RGB", (4000, 20)).save(folder / "b.png")
    (folder / "c.jpg").write_bytes(b"no picture")
    found = find_material(folder, SIDE, "longest")
    assert len(found.learning) + len(found.held_back) == 3
    assert found.notes[0].startswith("3 of 6 pictures left out: a.png is 1 x 1 pixels")
    # Squashed, a very wide picture is as high as any other.
    assert len(find_material(folder, SIDE, "stretch").notes) == 1
    assert find_material(folder, SIDE, "stretch").notes[0].startswith("2 of 6")


@pytest.mark.parametrize("kind", ["absent", "a file", "empty", "unusable"])
def test_no_pictures_are_one_line(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "in"
    if kind == "a file":
        folder.write_bytes(b"")
    elif kind != "absent":
        folder.mkdir()
    if kind == "unusable":
        Image.new("RGB", (4000, 2)).save(folder / "wide.png")
    words = {
        "absent": "does not exist: give a folder",
        "a file": "is a file: give a folder",
        "empty": "no picture in",
        "unusable": "wide.png is 4000 x 2 pixels",
    }[kind]
    error = InputError if kind == "unusable" else MissingInputError
    with pytest.raises(error, match=words) as caught:
        find_material(folder, SIDE, "longest")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("side", "share"), [(0, 0.1), (65, 0.1), (-32, 0.1), (64, 1.0), (64, -0.1)])
def test_impossible_sides_and_shares(tmp_path: Path, side: int, share: float) -> None:
    with pytest.raises(ConfigError, match="expected"):
        find_material(tmp_path, side, "longest", share)


def test_a_batch_is_decided_by_its_number(tmp_path: Path) -> None:
    found = find_material(write_pictures(tmp_path, 5), SIDE, "longest", 0.0)
    one, other = (Views(found.learning, SIDE, "longest", 2, views=3, seed=4) for _ in range(2))
    assert len(one) == 15
    later, again = one.batch(7), other.batch(7)
    assert torch.equal(later.images, again.images)
    assert later.step == 7
    assert not torch.equal(one.batch(0).images, later.images)
    order = np.random.default_rng((4, 0, 0)).permutation(15)
    seen = [int(number) for number in order]
    assert sorted(seen) == list(range(15))


def test_a_view_shows_the_whole_picture_then_parts_of_it(tmp_path: Path) -> None:
    """64 x 48 pixels into 64: 48 rows show the picture, and elements beyond them count for nothing."""
    found = find_material(write_pictures(tmp_path, 1), SIDE, "longest")
    stream = Views(found.learning, SIDE, "longest", 1, views=3)
    whole, part, mirrored = (stream.gather([number]) for number in range(3))
    assert whole.extents.tolist() == [[48.0, 64.0]]
    assert whole.valid()[0, 0].sum(1).tolist() == [4, 4, 4, 0]
    assert whole.valid(4).shape == (1, 1, 16, 16)
    pixels = np.asarray(Image.open(found.learning[0].path), np.float32) / 255
    np.testing.assert_allclose(whole.images[0, :, :48].permute(1, 2, 0).numpy(), pixels, atol=1 / 255)
    assert not torch.equal(part.images, whole.images)
    assert not torch.equal(part.images, mirrored.images)
