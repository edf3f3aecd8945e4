"""How a training run begins: folder, devices, signature and recipe."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from domainsam.errors import ConfigError, MissingInputError, OutputError
from domainsam.train.loop import StageOptions
from domainsam.train.start import RunOptions, read_recipe, start_run


@dataclass(frozen=True)
class Recipe:
    epochs: int = 2
    name: str = "a"


def options(folder: Path) -> RunOptions:
    return RunOptions(folder / "m.safetensors", device="cpu", quiet=True)


def test_a_run_has_a_folder_and_scratch_that_goes_away(tmp_path: Path) -> None:
    with start_run(options(tmp_path)) as training:
        assert training.writes
        scratch = training.scratch
        with training.run(["recipe"]) as run:
            assert scratch.parent == run.folder == tmp_path / "m.training"
        made = training.made({"dice": 0.5}, ("a note",))
    assert not scratch.exists()
    assert made.document() == {
        "model": str(tmp_path / "m.safetensors"),
        "folder": str(tmp_path / "m.training"),
        "metrics": {"dice": 0.5},
        "notes": ["a note"],
    }


def test_the_signature_follows_from_words_seed_and_precision(tmp_path: Path) -> None:
    def signature(words: list[str], given: RunOptions) -> str:
        with start_run(given) as training, training.run(words) as run:
            return run.signature

    given = options(tmp_path)
    first = signature(["recipe"], given)
    assert first == signature(["recipe"], replace(given, resume=True, workers=7))
    others = [
        signature(["another"], given),
        signature(["recipe"], replace(given, seed=1)),
        signature(["recipe"], replace(given, precision="bf16")),
    ]
    assert len({first, *others}) == 4


def test_what_cannot_be_written_or_computed_is_refused_at_once(tmp_path: Path) -> None:
    given = options(tmp_path)
    given.out.touch()
    with pytest.raises(OutputError, match="exists"), start_run(given):
        pass
    with (
        pytest.raises(ConfigError, match="fp16"),
        start_run(replace(given, overwrite=True, precision="fp16")),
    ):
        pass


def test_recipes_by_file_and_by_name(tmp_path: Path) -> None:
    shipped = tmp_path / "recipes"
    shipped.mkdir()
    (shipped / "quick.toml").write_text("epochs = 1\n")
    (tmp_path / "mine.toml").write_text('name = "b"\n')
    assert read_recipe(Recipe, Path("quick"), shipped) == Recipe(1, "a")
    assert read_recipe(Recipe, tmp_path / "mine.toml", shipped) == Recipe(2, "b")
    with pytest.raises(MissingInputError, match="shipped: quick"):
        read_recipe(Recipe, Path("quik"), shipped)
    with pytest.raises(MissingInputError, match=r"no configuration file .*none\.toml$"):
        read_recipe(Recipe, tmp_path / "none.toml", shipped)


def test_epochs_as_steps() -> None:
    stage = StageOptions(5, warmup=7, lr=0.1)
    assert stage.over_epochs(3, 40, judged=2) == StageOptions(120, warmup=7, lr=0.1, eval_every=80)
    assert stage.over_epochs(3, 40, warmup=1).warmup == 40
