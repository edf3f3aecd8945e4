"""A whole run: its file, its resumption, and what it says of bad requests."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from domainsam.distil.pictures import ViewBatch, Views
from domainsam.distil.recipes import Constants
from domainsam.distil.run import DistilOptions, distil
from domainsam.errors import CheckpointError, ConfigError, InputError, OutputError, WeightsError
from domainsam.foundation import load_foundation
from domainsam.train.cache import TEACHER
from tests.core.distil.tiny import STUDENT, write_pictures, write_teacher

SMALL = Constants(prompts=2, masks=2, points=32, depth=1, width=32, decoder_prompts=2)


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    write_teacher(folder / "teacher.safetensors")
    write_pictures(folder / "pictures", 6)
    return folder


def options(room: Path, name: str, **given: object) -> DistilOptions:
    usual = DistilOptions(
        out=room / name,
        images=room / "pictures",
        teacher=str(room / "teacher.safetensors"),
        student=STUDENT,
        device="cpu",
        batch_size=2,
        steps=(4,),
        rates=(1e-3,),
        every=2,
        quiet=True,
        cache=room / "features",
    )
    return replace(usual, **given)  # type: ignore[arg-type]


def test_a_run_ends_with_a_file_that_says_what_it_is(room: Path) -> None:
    result = distil(options(room, "plain.safetensors", steps=(12,), every=12))
    assert result.metrics["feature_error"] < result.metrics["feature_error_before"]
    read = load_foundation(room / "plain.safetensors")
    assert read.name == "embedded"
    assert read.image_size == 64
    features = read.encode(torch.zeros(1, 3, 64, 96))
    assert features.image.shape == (1, 256, 4, 6)
    with safe_open(str(room / "plain.safetensors"), "pt") as file:
        header = file.metadata()["domainsam"]
    for word in ('"recipe": "mse"', '"teacher": "embedded_lite"', '"pictures": 5', '"held_back": 1'):
        assert word in header
    assert {"log.csv", "curves.png", "state.pt"} <= {path.name for path in result.folder.iterdir()}
    assert len(list((room / "features").rglob("0.npy"))) == 6


@pytest.mark.parametrize("recipe", ["mse", pytest.param("prompt-loop", marks=pytest.mark.slow)])
def test_an_interrupted_run_ends_with_the_same_bytes(
    room: Path, recipe: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Broken off in the last stage, and gone on with, it writes what an unbroken run writes."""
    whole = options(room, f"whole-{recipe}.safetensors", recipe=recipe)
    distil(whole, SMALL)
    broken = options(room, f"broken-{recipe}.safetensors", recipe=recipe)
    batch, asked = Views.batch, []

    def fail(self: Views, step: int) -> ViewBatch:
        asked.append(step)
        if step == 3 and asked.count(3) == (1 if recipe == "mse" else 2):
            raise KeyboardInterrupt
        return batch(self, step)

    monkeypatch.setattr(Views, "batch", fail)
    with pytest.raises(KeyboardInterrupt):
        distil(broken, SMALL)
    monkeypatch.undo()
    assert not broken.out.exists()
    distil(replace(broken, resume=True), SMALL)
    assert broken.out.read_bytes() == whole.out.read_bytes()
    with pytest.raises(CheckpointError, match="of a run with other options"):
        distil(replace(broken, resume=True, batch_size=3), SMALL)


def test_a_cache_of_another_teacher_is_refused(room: Path) -> None:
    distil(options(room, "first.safetensors", cache=room / "shared"))
    write_teacher(room / "other.safetensors", seed=8)
    with pytest.raises(InputError, match="is of teacher embedded_lite in float32") as caught:
        distil(
            options(
                room, "second.safetensors", cache=room / "shared", teacher=str(room / "other.safetensors")
            )
        )
    assert "\n" not in str(caught.value)
    (room / "shared" / TEACHER).write_text("{")
    with pytest.raises(InputError, match="damaged"):
        distil(options(room, "second.safetensors", cache=room / "shared"))
    with pytest.raises(InputError, match="holds files but no"):
        distil(options(room, "second.safetensors", cache=room / "pictures"))


@pytest.mark.parametrize(
    ("changed", "error", "words"),
    [
        ({"recipe": "msee"}, ConfigError, "did you mean mse"),
        ({"recipe": "nothing alike"}, ConfigError, "recipes: mse, sami, prompt-loop, layerwise, end-to-end"),
        ({"teacher": "embeded"}, WeightsError, "did you mean embedded"),
        ({"student": "efficientnet_lite"}, ConfigError, "did you mean"),
        ({"student": "embedded"}, ConfigError, "same network"),
        ({"side": 100}, ConfigError, "multiple of 32"),
        ({"views": 0}, ConfigError, "expected 1 or more"),
        ({"steps": (0,)}, ConfigError, "expected numbers above 0"),
        ({"out": Path("x.pth")}, ConfigError, "should end in .safetensors"),
        ({"start": Path("nowhere.pth")}, WeightsError, "does not exist"),
        ({"student": "mobile_sam"}, ConfigError, "does not fit teacher"),
    ],
)
def test_bad_requests_are_one_line(
    room: Path, changed: dict[str, object], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words) as caught:
        distil(options(room, "bad.safetensors", **changed))
    assert "\n" not in str(caught.value)
    assert not (room / "bad.safetensors").exists()


def test_a_file_that_is_there_is_not_replaced_unasked(room: Path) -> None:
    (room / "there.safetensors").write_bytes(b"mine")
    with pytest.raises(OutputError, match="exists"):
        distil(options(room, "there.safetensors"))
    assert (room / "there.safetensors").read_bytes() == b"mine"
