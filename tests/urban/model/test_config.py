"""The tables in a model file's header: what is missing has its default, what is wrong is named."""

from __future__ import annotations

import tomllib
from dataclasses import replace

import pytest

from domainsam.config import from_table, to_table
from domainsam.errors import ConfigError
from domainsam_urban.model.config import SceneConfig, UrbanConfig
from tests.toml_text import to_toml

HEADER = "the model's header"


def test_tables_are_read_back_as_they_were_written() -> None:
    config = UrbanConfig(scene=SceneConfig(resolution=1.2, tile=256, overlap=64))
    assert from_table(UrbanConfig, to_table(config), HEADER) == config
    assert from_table(UrbanConfig, tomllib.loads(to_toml(config)), HEADER) == config


def test_a_header_that_says_less_is_filled_up_with_defaults() -> None:
    found = from_table(
        UrbanConfig, {"prompter": {"parts": {"box": False}}, "scene": {"resolution": 1}}, HEADER
    )
    prompter = UrbanConfig().prompter
    assert found == UrbanConfig(
        scene=SceneConfig(resolution=1.0),
        prompter=replace(prompter, parts=replace(prompter.parts, box=False)),
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[scene]\nresolution = 0", "resolution is 0.0, expected metres above 0"),
        ("[scene]\ntile = 500", "tile is 500, expected a multiple of 32"),
        ("[scene]\nleast_tile = 1024", "least_tile is 1024, expected 32 to tile"),
        ("[scene]\noverlap = 512", "overlap is 512"),
        ("[scene]\nresolutoin = 1", "unknown key scene.resolutoin, did you mean scene.resolution"),
        ("[prompter]\nmixer = 'sum'", "prompter.mixer is 'sum', expected one of 'mlp', 'add'"),
    ],
)
def test_faults_are_one_line_that_names_the_place(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        from_table(UrbanConfig, tomllib.loads(text), HEADER)
    assert message in str(caught.value)
    assert HEADER in str(caught.value)
    assert "\n" not in str(caught.value)
