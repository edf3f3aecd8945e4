"""Every efficient generalist drives settlements, organs and clicks by its name alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
import rasterio

from domainsam.foundation import efficient
from domainsam.predictor import Predictor
from domainsam.weights import FOLDER_VARIABLE
from domainsam_cli import main
from tests.core.generalists import random_network, write_official
from tests.core.official import picture
from tests.ct.made import canonical_volume, oblique, stored, write_nifti
from tests.urban.tiny import write_scene

SIDE = 128
"""Of crops and pictures, far below the 1024 pixels of the real ones."""
QUICK = ("efficientsam_ti", "edge_sam")
NAMES = [
    name if name in QUICK else pytest.param(name, marks=pytest.mark.slow)
    for name in efficient.SPECS
    if "_xl" not in name
]
"""Files of 0.5 and 0.8 GB are left to people who have them: their networks differ in numbers only."""


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A generalist whose official-format file of random weights lies where weights are looked for."""
    chosen: str = request.param
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    if chosen == "lightening":
        spec = efficient.SPECS[chosen]
        efficient.save_network(random_network(chosen), spec, tmp_path / "lightening.safetensors")
    else:
        write_official(chosen, tmp_path)
    monkeypatch.setitem(efficient.SPECS, chosen, replace(efficient.SPECS[chosen], image_size=SIDE))
    yield chosen
    # Nobody looks at them again, and together they are large.
    for path in tmp_path.glob("*.p*t*"):
        path.unlink()


def test_a_name_is_all_it_takes(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scene = write_scene(tmp_path / "scene.tif")
    (tmp_path / "boxes.csv").write_text("left,top,right,bottom,label\n24,20,56,44,pond\n")
    made = ("-o", str(tmp_path / "s.gpkg"), "--mask", str(tmp_path / "m.tif"))
    where = (str(scene), "--boxes", str(tmp_path / "boxes.csv"), "--precision", "fp32")
    assert main(["urban", "map", *where, *made, "--foundation", name]) == 0, capsys.readouterr().err
    with rasterio.open(tmp_path / "m.tif") as mask:
        assert mask.tags()["FOUNDATION"] == name
        assert mask.shape == (160, 128)

    array, affine = stored(canonical_volume((64, 80, 3)), oblique(), (0, 1, 2), (False, False, False))
    scan = write_nifti(tmp_path / "ct.nii.gz", array, affine)
    box = {"label": "liver", "box": [11.5, 19.5, 0.5, 35.5, 51.5, 1.5]}
    (tmp_path / "marks.json").write_text(json.dumps({"frame": "voxel", "objects": [box]}))
    where = (str(scan), "--boxes", str(tmp_path / "marks.json"), "-o", str(tmp_path / "o.nii.gz"))
    assert main(["ct", "segment", *where, "--precision", "fp32", "--foundation", name]) == 0
    organ = np.asarray(nibabel.load(tmp_path / "o.nii.gz").dataobj)
    assert organ.shape == (64, 80, 3)
    assert not organ[..., [0, 2]].any(), "only the marked slice"

    predictor = Predictor(name, device="cpu")
    predictor.set_image(picture(100, 160))
    masks, scores, low = predictor.predict([[40, 30]], [1])
    assert (masks.shape, scores.shape, low.shape) == ((3, 100, 160), (3,), (3, SIDE // 4, SIDE // 4))
    boxed, _, _ = predictor.predict(box=(20, 20, 90, 80), multimask_output=False, return_logits=True)
    assert boxed.std() > 0.01, "the logits do not vary: nothing would be decoded"
