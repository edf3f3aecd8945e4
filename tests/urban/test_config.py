"""The urban pack's configuration: the documented file and the code say the same."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from domainsam.config import to_table, to_toml
from domainsam.errors import ConfigError
from domainsam_urban.config import DEFAULT_FILE, SceneConfig, UrbanConfig, read_urban_config


def test_the_file_says_what_the_code_does_and_leaves_nothing_out() -> None:
    assert read_urban_config() == UrbanConfig()
    assert tomllib.loads(DEFAULT_FILE.read_text(encoding="utf-8")) == to_table(UrbanConfig())


def test_a_users_file_is_filled_up_with_defaults(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("[prompter.parts]\nbox = false\n[scene]\nresolution = 1\n")
    config = read_urban_config(path)
    parts = replace(UrbanConfig().prompter.parts, box=False)
    assert config == UrbanConfig(
        scene=SceneConfig(resolution=1.0), prompter=replace(UrbanConfig().prompter, parts=parts)
    )
    path.write_text(to_toml(config))
    assert read_urban_config(path) == config


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[scene]\nresolution = 0", "resolution is 0.0, expected metres above 0"),
        ("[scene]\ntile = 500", "tile is 500, expected a multiple of 32"),
        ("[scene]\noverlap = 512", "overlap is 512"),
        ("[scene]\nresolutoin = 1", "unknown key scene.resolutoin, did you mean scene.resolution"),
        ("[prompter]\nmixer = 'sum'", "prompter.mixer is 'sum', expected one of 'mlp', 'add'"),
    ],
)
def test_faults_are_one_line_that_names_the_file(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_urban_config(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
