"""Published layouts, with every peculiarity, on miniature trees."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from domainsam.errors import InputError
from domainsam_scene.read.images import read_image
from domainsam_scene.read.layouts import LAYOUTS, find_layout, find_published_colours
from domainsam_scene.read.layouts.base import IGNORE, Layout, read_sample
from domainsam_scene.settings import ReadOptions
from tests.scene.trees import SIDE, deliver_tree, mcubes_tree, muses_tree, noise, write_png


@pytest.fixture(scope="module")
def deliver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # "img" and "val" in the root's own path must not confuse the reader.
    return deliver_tree(tmp_path_factory.mktemp("images_rgb_fog") / "img" / "val")


@pytest.fixture(scope="module")
def mcubes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return mcubes_tree(tmp_path_factory.mktemp("mcubes"))


@pytest.fixture
def muses(tmp_path: Path) -> Path:
    return muses_tree(tmp_path / "muses")


@pytest.mark.parametrize("name", list(LAYOUTS))
def test_layouts_keep_the_protocol(name: str) -> None:
    layout = find_layout(name)
    assert isinstance(layout, Layout)
    assert layout.name == name
    assert len(layout.labels) == len(layout.colours)
    assert len(set(layout.labels)) == len(layout.labels)


def test_published_class_counts() -> None:
    assert sorted(map(len, find_published_colours())) == [19, 20, 25]


class TestDeliver:
    def test_samples_and_conditions(self, deliver: Path) -> None:
        refs = find_layout("deliver").samples(deliver, "val")
        assert [ref.name for ref in refs] == [
            "fog/MAP_1_point3/000001",
            "fog/MAP_1_point3/000002",
            "night/MAP_10_point9_motionblur/000001",
            "night/MAP_10_point9_motionblur/000002",
        ]
        assert [ref.conditions["weather"] for ref in refs] == ["fog", "fog", "night", "night"]
        # The root's path holds no case, and its "fog" is nobody's weather.
        assert [ref.conditions["sensor case"] for ref in refs] == ["none"] * 2 + ["motionblur"] * 2

    def test_depth_is_hha_and_names_swap_folder_and_word(self, deliver: Path) -> None:
        ref = find_layout("deliver").samples(deliver, "val")[0]
        below = deliver / "hha" / "fog" / "val" / "MAP_1_point3"
        assert ref.files["depth"] == (below / "000001_depth_front.png",)
        assert all(path.is_file() for files in ref.files.values() for path in files)

    def test_alpha_is_dropped_and_one_channel_repeated(self, deliver: Path) -> None:
        layout = find_layout("deliver")
        ref = layout.samples(deliver, "val")[0]
        rgb = layout.read_plane(ref, "rgb", None)
        assert rgb.image.shape == (3, SIDE, SIDE)
        stored = read_image(ref.files["rgb"][0]).values
        np.testing.assert_allclose(rgb.image, stored[:3] / 255, atol=1e-6)
        lidar = layout.read_plane(ref, "lidar", None)
        np.testing.assert_array_equal(lidar.image[0], lidar.image[2])

    def test_events_are_stretched_by_nearest_pixels(self, deliver: Path) -> None:
        layout = find_layout("deliver")
        ref = layout.samples(deliver, "val")[0]
        sample = read_sample(layout, ref, ("rgb", "event"))
        small = layout.read_plane(ref, "event", None).image
        assert small.shape == (3, SIDE // 4, SIDE // 3)
        assert sample.images["event"].shape == sample.images["rgb"].shape
        assert set(np.unique(sample.images["event"])) <= set(np.unique(small))
        assert any("event resized" in note for note in sample.notes)

    def test_labels_count_from_one_and_both_ends_are_ignored(self, deliver: Path) -> None:
        layout = find_layout("deliver")
        labels = layout.read_labels(layout.samples(deliver, "val")[0])
        assert labels.dtype == np.uint8
        assert labels[0, 0] == IGNORE
        np.testing.assert_array_equal(labels[:4, 1], [IGNORE, 0, 1, 2])
        assert set(np.unique(labels)) == {*range(25), IGNORE}

    def test_split_without_pictures(self, deliver: Path) -> None:
        with pytest.raises(InputError, match="split train holds no pictures"):
            find_layout("deliver").samples(deliver, "train")


class TestMcubes:
    def test_splits_follow_their_own_lists(self, mcubes: Path, caplog: pytest.LogCaptureFixture) -> None:
        layout = find_layout("mcubes")
        with caplog.at_level(logging.WARNING):
            assert [ref.name for ref in layout.samples(mcubes, "test")] == ["outscene0002_test"]
            assert caplog.text == ""
            assert [ref.name for ref in layout.samples(mcubes, "val")] == ["outscene0001_val"]
        assert "--split test" in caplog.text

    def test_left_columns_are_cut_from_every_sensor_and_the_labels(self, mcubes: Path) -> None:
        layout = find_layout("mcubes")
        (ref,) = layout.samples(mcubes, "test")
        sample = read_sample(layout, ref, layout.modalities)
        assert {image.shape for image in sample.images.values()} == {(3, SIDE, 60)}
        labels = layout.read_labels(ref)
        assert labels.shape == (SIDE, 60)
        assert labels[1, 0] == 192 % 20
        assert (labels[0] == IGNORE).all()

    def test_sixteen_bit_colour(self, mcubes: Path) -> None:
        layout = find_layout("mcubes")
        (ref,) = layout.samples(mcubes, "test")
        stored = read_image(ref.files["rgb"][0]).values
        assert stored.dtype == np.uint16
        np.testing.assert_allclose(
            layout.read_plane(ref, "rgb", None).image, stored[:, :, 192:] / 65535, atol=1e-6
        )

    def test_angle_is_sine_cosine_sine(self, mcubes: Path) -> None:
        layout = find_layout("mcubes")
        (ref,) = layout.samples(mcubes, "test")
        angle = layout.read_plane(ref, "aolp", None).image
        np.testing.assert_array_equal(angle[0], angle[2])
        # A sine and cosine that went through (x + 1) / 2 still lie on the circle.
        np.testing.assert_allclose((2 * angle[0] - 1) ** 2 + (2 * angle[1] - 1) ** 2, 1, atol=1e-5)

    def test_infrared_is_valid_where_its_mask_says(self, mcubes: Path) -> None:
        layout = find_layout("mcubes")
        (ref,) = layout.samples(mcubes, "test")
        valid = layout.read_plane(ref, "nir", None).valid
        assert not valid[:, :10].any()
        assert valid[:, 10:].all()


class TestMuses:
    def test_split_and_conditions_come_from_the_list(self, muses: Path) -> None:
        (ref,) = find_layout("muses").samples(muses, "val")
        assert ref.conditions == {"weather": "fog", "time of day": "night"}
        assert set(ref.files) == {"rgb", "event", "lidar", "radar"}

    def test_raw_lidar_is_projected_with_the_nearest_point_on_top(self, muses: Path) -> None:
        layout = find_layout("muses")
        (ref,) = layout.samples(muses, "val")
        image = layout.read_plane(ref, "lidar", None).image
        hits = np.argwhere(image.any(axis=0))
        # Straight ahead, and 4 m to the right and 2 m up at 20 m; neither what is behind nor too near.
        assert {tuple(hit) for hit in hits} == {(27, 48), (22, 58)}
        np.testing.assert_allclose(image[:, 27, 48], [10 / 150, 200 / 255, 10 / 30], atol=1e-6)

    def test_raw_radar_skips_columns_that_are_not_valid(self, muses: Path) -> None:
        layout = find_layout("muses")
        (ref,) = layout.samples(muses, "val")
        image = layout.read_plane(ref, "radar", None).image
        assert image[1].max() == pytest.approx(222 / 255)
        row, col = np.unravel_index(image[1].argmax(), image[1].shape)
        assert (int(col), image[0, row, col]) == (48, pytest.approx(20 / 150, abs=1e-3))
        assert not np.isclose(image[1], 111 / 255).any()

    def test_raw_events_of_the_last_moment_are_counted_by_polarity(self, muses: Path) -> None:
        h5py = pytest.importorskip("h5py")
        layout = find_layout("muses")
        (ref,) = layout.samples(muses, "val")
        path = ref.files["event"][0]
        path.parent.mkdir(parents=True)
        with h5py.File(path, "w") as file:
            # The middle of the event camera three times, once too long ago; and one darker event.
            file["events/x"], file["events/y"] = [320, 320, 320, 320], [240, 240, 240, 240]
            file["events/t"], file["events/p"] = [0, 90_000, 100_000, 100_001], [1, 1, 1, 0]
        image = layout.read_plane(ref, "event", None).image
        np.testing.assert_allclose(image[:, 27, 48], [2 / 8, 1 / 8, 0])
        assert image.sum() == pytest.approx(3 / 8)

    @pytest.mark.parametrize("suffix", [".npz", ".npy", ".png"])
    def test_projections_of_the_kit_are_read_alike(self, muses: Path, suffix: str) -> None:
        layout = find_layout("muses")
        (ref,) = layout.samples(muses, "val")
        kit = np.zeros((54, 96, 3), np.float32)
        kit[5, 7] = 60.0, 51.0, -4.0
        path = next(path for path in ref.files["lidar"] if path.suffix == suffix)
        path.parent.mkdir(parents=True)
        if suffix == ".npz":
            np.savez_compressed(path, kit)
        elif suffix == ".npy":
            np.save(path, kit)
        else:
            # OpenCV writes the first channel last.
            write_png(path, ((kit + 100) * 150).astype(np.uint16)[..., ::-1].transpose(2, 0, 1))
        image = layout.read_plane(ref, "lidar", None).image
        np.testing.assert_allclose(image[:, 5, 7], [0.4, 0.2, 0.2], atol=1e-4)
        assert np.count_nonzero(image.any(axis=0)) == 1

    def test_full_numbers_become_training_numbers(self, muses: Path) -> None:
        (muses / "gt_semantic/val/fog/night/REC0001_frame_000003_gt_labelTrainIds.png").unlink()
        full = np.zeros((54, 96), np.uint8)
        full[0, :4] = 7, 33, 26, 34
        write_png(muses / "gt_semantic/val/fog/night/REC0001_frame_000003_gt_labelIds.png", full)
        layout = find_layout("muses")
        labels = layout.read_labels(layout.samples(muses, "val")[0])
        np.testing.assert_array_equal(labels[0, :5], [0, 18, 13, IGNORE, IGNORE])

    def test_hidden_labels_say_so(self, muses: Path) -> None:
        layout = find_layout("muses")
        with pytest.raises(InputError, match="not published"):
            layout.read_labels(layout.samples(muses, "test")[0])


class TestPlain:
    @pytest.fixture
    def plain(self, tmp_path: Path) -> Path:
        root = tmp_path / "mine"
        for name in ("a", "b"):
            write_png(root / "rgb" / f"{name}.png", noise(3, 20, 30))
            write_png(root / "labels" / f"{name}.png", noise(20, 30, high=3))
        write_png(root / "depth" / "a.png", noise(20, 30, dtype="uint16", high=65536))
        (root / "labels.txt").write_text("one\ntwo\nthree\n")
        (root / "val.txt").write_text("b\n")
        return root

    def test_names_are_those_of_any_folder(self, plain: Path) -> None:
        layout = find_layout("plain")
        refs = layout.samples(plain, None)
        assert [(ref.name, sorted(ref.files)) for ref in refs] == [("a", ["depth", "rgb"]), ("b", ["rgb"])]
        assert layout.labels == ("one", "two", "three")
        assert layout.modalities == ("depth", "rgb")
        assert layout.read_labels(refs[0]).max() == 2

    def test_split_is_a_list_or_a_folder(self, plain: Path) -> None:
        assert [ref.name for ref in find_layout("plain").samples(plain, "val")] == ["b"]
        write_png(plain / "test" / "rgb" / "z.png", noise(3, 20, 30))
        assert [ref.name for ref in find_layout("plain").samples(plain, "test")] == ["z"]
        with pytest.raises(InputError, match="no split 'train'"):
            find_layout("plain").samples(plain, "train")

    def test_sample_without_a_sensor_goes_on_unless_strict(self, plain: Path) -> None:
        layout = find_layout("plain")
        ref = layout.samples(plain, None)[1]
        sample = read_sample(layout, ref, ("rgb", "depth"))
        assert (tuple(sample.images), tuple(sample.missing)) == (("rgb",), ("depth",))
        with pytest.raises(InputError, match="has no depth"):
            read_sample(layout, ref, ("rgb", "depth"), ReadOptions(strict=True))

    def test_labels_beyond_the_class_list(self, plain: Path) -> None:
        (plain / "labels.txt").write_text("one\ntwo\n")
        layout = find_layout("plain")
        with pytest.raises(InputError, match="holds labels 2, expected 0 to 1, or 255"):
            layout.read_labels(layout.samples(plain, None)[0])
