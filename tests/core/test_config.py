"""Settings: TOML round trips, defaults, faults named."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domainsam.config import from_table, read_config, to_table
from domainsam.errors import ConfigError, MissingInputError
from domainsam.prompter.segformer import PrompterConfig
from tests.toml_text import to_toml


@dataclass(frozen=True)
class Inner:
    rate: float = 0.5
    names: tuple[str, ...] = ("a", "b")
    pair: tuple[int, int] = (1, 2)


@dataclass(frozen=True)
class Outer:
    title: str
    count: int = 3
    fast: bool = False
    mode: Literal["one", "two"] = "one"
    limit: float | None = None
    folder: Path | None = None
    inner: Inner = field(default_factory=Inner)


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    given = Outer('a "quoted"\nline \\', 7, True, "two", 1e-9, Path("x/y"), Inner(0.1, (), (3, 4)))
    (tmp_path / "settings.toml").write_text(to_toml(given), encoding="utf-8")
    assert read_config(Outer, tmp_path / "settings.toml") == given


@given(
    title=st.text(st.characters(exclude_categories=["Cs"])),
    rate=st.floats(allow_nan=False, allow_infinity=False),
)
def test_any_text_and_number_survives(title: str, rate: float) -> None:
    settings = Outer(title, inner=Inner(rate=rate))
    assert from_table(Outer, tomllib.loads(to_toml(settings))) == settings


def test_defaults_fill_in() -> None:
    assert from_table(Outer, {"title": "t", "inner": {"rate": 1}}) == Outer("t", inner=Inner(rate=1.0))


def test_none_is_left_out() -> None:
    assert "limit" not in to_table(Outer("t"))


def test_none_may_be_given_where_it_is_allowed() -> None:
    assert from_table(Outer, {"title": "t", "limit": None}) == Outer("t")
    with pytest.raises(ConfigError, match="title is None, expected str"):
        from_table(Outer, {"title": None})


def test_faults_that_a_class_finds_itself_name_the_source() -> None:
    with pytest.raises(ConfigError, match=r"mine\.toml: threshold is 1\.5"):
        from_table(PrompterConfig, {"proposals": {"threshold": 1.5}}, "mine.toml")


def test_real_configuration_round_trip() -> None:
    config = PrompterConfig(mixer="add", dropout=0.2)
    assert from_table(PrompterConfig, tomllib.loads(to_toml(config))) == config


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"title": "t", "cuont": 4}, "unknown key cuont, did you mean count?"),
        ({"title": "t", "zzz": 4}, r"unknown key zzz \(valid: title, count, fast"),
        ({"title": "t", "inner": {"rates": 4}}, "unknown key inner.rates, did you mean inner.rate?"),
        ({}, "title is missing"),
        ({"title": "t", "count": "3"}, "count is '3', expected int"),
        ({"title": "t", "count": True}, "count is True, expected int"),
        ({"title": "t", "count": 3.5}, "count is 3.5, expected int"),
        ({"title": "t", "fast": 1}, "fast is 1, expected bool"),
        ({"title": "t", "mode": "three"}, "expected one of 'one', 'two'"),
        ({"title": "t", "inner": 3}, "inner is 3, expected a table"),
        ({"title": "t", "inner": {"pair": [1]}}, r"inner.pair has 1 values, expected 2"),
        ({"title": "t", "inner": {"names": ["a", 1]}}, r"inner.names\[1\] is 1, expected str"),
        ({"title": "t", "inner": {"names": "ab"}}, "expected a list"),
    ],
)
def test_faults_are_named(table: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message.replace("?", r"\?")):
        from_table(Outer, table)


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(ConfigError, match=r"cuont.*fast is 1"):
        from_table(Outer, {"title": "t", "cuont": 1, "fast": 1}, "settings.toml")


def test_files_that_are_no_configuration(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match=r"no configuration file .*absent\.toml"):
        read_config(Outer, tmp_path / "absent.toml")
    with pytest.raises(MissingInputError, match="cannot be read"):
        read_config(Outer, tmp_path)
    for name, content in (("broken.toml", b"title = "), ("binary.toml", b"\xff\xfe\x00")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ConfigError, match="not valid TOML"):
            read_config(Outer, tmp_path / name)
