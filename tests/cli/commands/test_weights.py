"""``domainsam weights`` says what there is, fetches and verifies."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from domainsam import weights as known_weights
from domainsam.errors import WeightsError
from domainsam.weights import FOLDER_VARIABLE, KNOWN
from domainsam_cli.commands.weights import weights

NAME = "sam2.1_hiera_tiny"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty weight folder, and a table that expects the bytes ``good`` for one file."""
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    entry = replace(KNOWN[NAME], sha256=hashlib.sha256(b"good").hexdigest())
    monkeypatch.setitem(known_weights.KNOWN, NAME, entry)
    return tmp_path


def test_list_names_every_file_and_says_which_are_here(folder: Path) -> None:
    path = folder / KNOWN[NAME].file
    path.write_bytes(b"good")
    result = CliRunner().invoke(weights, ["list"])
    assert result.exit_code == 0
    for entry in KNOWN.values():
        assert entry.name in result.output
        assert entry.url in result.output
        assert entry.sha256 is None or entry.sha256 in result.output
    assert "sha256 unknown: nobody has published one" in result.output
    assert "a file of your own, named lightening.safetensors" in result.output
    assert str(path) in result.output
    assert result.output.count("not here") == len(KNOWN) - 1


def test_verify_checks_what_is_here(folder: Path) -> None:
    empty = CliRunner().invoke(weights, ["verify"])
    assert empty.exit_code == 0
    assert "no published weights" in empty.output
    (folder / KNOWN[NAME].file).write_bytes(b"good")
    good = CliRunner().invoke(weights, ["verify"])
    assert good.exit_code == 0
    assert f"{NAME}: good" in good.output
    (folder / KNOWN[NAME].file).write_bytes(b"bad")
    bad = CliRunner().invoke(weights, ["verify", NAME])
    assert isinstance(bad.exception, WeightsError)
    assert "not the published file" in str(bad.exception)


def test_verify_of_an_absent_file_says_how_to_get_it(folder: Path) -> None:
    result = CliRunner().invoke(weights, ["verify", "sam_vit_h"])
    assert isinstance(result.exception, WeightsError)
    assert "domainsam weights fetch sam_vit_h" in str(result.exception)


def test_fetch_leaves_a_good_file_alone(folder: Path) -> None:
    (folder / KNOWN[NAME].file).write_bytes(b"good")
    result = CliRunner().invoke(weights, ["fetch", NAME])
    assert result.exit_code == 0
    assert "checked, Apache-2.0" in result.output


def test_fetch_of_an_unknown_name_lists_the_known_ones(folder: Path) -> None:
    result = CliRunner().invoke(weights, ["fetch", "sam_vit_x"])
    assert isinstance(result.exception, WeightsError)
    assert "sam_vit_b" in str(result.exception)
    assert result.exception.exit_code == 3


def test_verify_says_where_no_checksum_is_published(folder: Path) -> None:
    path = folder / "repvit_sam.pt"
    path.write_bytes(b"mine")
    digest = hashlib.sha256(b"mine").hexdigest()
    first = CliRunner().invoke(weights, ["verify", "repvit_sam"])
    assert f"repvit_sam: checksum unknown, recorded now: sha256 {digest}" in first.output
    again = CliRunner().invoke(weights, ["verify", "repvit_sam"])
    assert f"repvit_sam: checksum unknown, as it was when first used: sha256 {digest}" in again.output
    path.write_bytes(b"other")
    changed = CliRunner().invoke(weights, ["verify", "repvit_sam"])
    assert "not the file that was first used" in str(changed.exception)


def test_fetch_tells_an_unknown_checksum_and_a_licence_that_binds(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "edge_sam.pth").write_bytes(b"mine")
    result = CliRunner().invoke(weights, ["fetch", "edge_sam"])
    assert result.exit_code == 0
    assert f"checksum unknown, its sha256 is {hashlib.sha256(b'mine').hexdigest()}" in result.output
    assert "non-commercial use only" in result.output
