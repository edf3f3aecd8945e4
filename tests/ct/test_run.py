"""``domainsam.run("ct", ...)``: keywords as the command's, images in and out."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest

import domainsam
import domainsam_ct
from domainsam.errors import ConfigError
from domainsam.keywords import keyword_names
from domainsam_ct.commands.segment import segment_command
from domainsam_ct.generated import draw_abdomen, write_sample
from domainsam_ct.run import segment_options

SHAPE, SPACING = (96, 72, 4), (3.5, 3.5, 8.0)


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("scan") / "ct.nii.gz"
    write_sample(path, draw_abdomen(SHAPE, SPACING, seed=1)[0], SPACING)
    return path


def test_keywords_are_the_options_of_the_command() -> None:
    options = {item.name for item in segment_command.params if item.expose_value} - {
        "inputs",
        "as_json",
        "verbose",
    }
    assert options == set(keyword_names(segment_options))


def test_defaults_are_those_of_the_command() -> None:
    from domainsam_cli.options import job_options

    given = dict(segment_command.make_context("segment", ["ct.nii.gz", "-o", "m.nii.gz"]).params)
    del given["inputs"]
    assert segment_options(**job_options(given)) == segment_options(out="m.nii.gz")


def test_a_file_and_the_image_of_it_have_one_answer(scan: Path, tmp_path: Path) -> None:
    result = domainsam.run("ct", scan, tmp_path / "m.nii.gz", device="cpu", cleanup="none")
    assert [organ.name for organ in result.organs]
    stored = nibabel.load(result.paths["mask"])
    image = domainsam.run("ct", nibabel.load(scan), device="cpu", cleanup="none")
    assert np.array_equal(image.affine, stored.affine)
    assert np.array_equal(np.asarray(image.dataobj), np.asarray(stored.dataobj))
    assert image.get_data_dtype() == np.uint8


@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        ({"organ": "liver"}, "did you mean organs"),
        ({"organs": ["lever"]}, "lever"),
        ({"window": (1, 2, 3)}, "expected two"),
    ],
)
def test_wrong_keywords(scan: Path, tmp_path: Path, keywords: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        domainsam.run("ct", scan, tmp_path / "m.nii.gz", **keywords)


def test_an_output_must_be_named(scan: Path) -> None:
    with pytest.raises(ConfigError, match="name an output"):
        domainsam.run("ct", scan)


def test_load_model_is_at_the_root() -> None:
    assert domainsam_ct.load_model(device="cpu").name == "abdomen"
