"""``domainsam train-words`` refuses what a method does not have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from domainsam.errors import ConfigError
from domainsam.teach.methods import METHODS, OPTIONS, Method, check_options, find_method
from domainsam.teach.options import TeachOptions
from domainsam_cli import main


def test_every_method_names_options_that_there_are() -> None:
    for row in METHODS.values():
        assert set(row.options) <= set(OPTIONS)
        assert set(row.needs) <= set(row.options)
        assert row.summary.endswith(".")
    assert {name for row in METHODS.values() for name in row.options} == set(OPTIONS)


def test_options_of_others_are_refused() -> None:
    plain = Method("plain", "a:b", "Nothing.", "a folder", (), ())
    with pytest.raises(ConfigError, match=r"--clip is of no use with --method plain \(it belongs to ovsam"):
        check_options(plain, {"clip": Path("x")})
    assert check_options(plain, {"clip": None}) == {}
    needy = Method("needy", "a:b", "Nothing.", "a folder", ("clip",), ("clip",))
    with pytest.raises(ConfigError, match="--method needy needs --clip: Weights of CLIP"):
        check_options(needy, {})
    with pytest.raises(ConfigError, match="--method is 'clip', expected one of: ovsam"):
        find_method("clip")


def test_lengths_are_as_told_or_as_published() -> None:
    options = TeachOptions(Path("a.safetensors"), epochs=(3, 2))
    assert [options.count_steps(number, 10, 7) for number in range(3)] == [30, 20, 20]
    assert TeachOptions(Path("a"), steps=(5,)).count_steps(1, 10, 7) == 5
    assert TeachOptions(Path("a")).count_steps(0, 10, 7) == 70
    wrong: dict[str, Any]
    for wrong in ({"batch_size": 0}, {"held_back": 1.0}, {"steps": (0,)}, {"rates": (-1.0,)}):
        with pytest.raises(ConfigError, match="expected"):
            TeachOptions(Path("a"), **wrong)


def test_help_names_methods_and_a_wrong_one_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train-words", "--help"]) == 0
    assert "[ovsam" in capsys.readouterr().out
    assert main(["train-words", "data", "--method", "dreams", "-o", "a.safetensors"]) == 2
    assert "dreams" in capsys.readouterr().err
