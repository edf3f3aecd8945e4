"""Models of words are found by name, by name and path, or by what lies at a path."""

from __future__ import annotations

import json
import logging
import sys
from dataclasses import astuple
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from domainsam.errors import CheckpointError, WeightsError
from domainsam.protocols import Word
from domainsam.vocabularies import VOCABULARIES, find_vocabularies
from domainsam.vocabulary import load_vocabulary_model, split_name
from domainsam.vocabulary.fake import FakeNamer
from domainsam.vocabulary.loading import find_file, identify
from domainsam.vocabulary.names import Named, choose_names, count_names

STRANGER = """
from domainsam.vocabularies import VocabularySpec

ROWS = [
    VocabularySpec("parrot", "domainsam.vocabulary.fake:load", "MIT"),
    VocabularySpec("fake", "x:y", "MIT"),
]
"""
ENTRIES = """[domainsam.vocabularies]
rows = stranger_words:ROWS
broken = no_such_module:ROWS
wrong = json:dumps
"""


def test_a_name_a_path_or_both(tmp_path: Path) -> None:
    assert isinstance(load_vocabulary_model("fake"), FakeNamer)
    assert split_name("ovsam_coco") == (VOCABULARIES["ovsam_coco"], None)
    assert split_name(f"samclip:{tmp_path}") == (VOCABULARIES["samclip"], tmp_path)
    with pytest.raises(
        WeightsError, match="no model of words or weight file 'ovsam_cocoo'; did you mean ovsam"
    ):
        split_name("ovsam_cocoo")
    with pytest.raises(WeightsError, match=r"samclip: there is no file or folder 'absent\.pt'"):
        split_name("samclip:absent.pt")


def test_what_lies_at_a_path_tells_whose_it_is(tmp_path: Path) -> None:
    file = tmp_path / "words.safetensors"
    told = {"domainsam": json.dumps({"vocabulary": "samclip"})}
    save_file({"a": torch.zeros(1)}, file, told)
    assert identify(file) == "samclip"
    folder = tmp_path / "sam3"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "sam3"}')
    assert identify(folder) == "sam3"
    (folder / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(CheckpointError, match=r"no known model of words.*NAME:.*sam3"):
        identify(folder)
    (folder / "config.json").write_text("[")
    with pytest.raises(CheckpointError, match="cannot be read as JSON"):
        identify(folder)
    official = tmp_path / "official"
    official.mkdir()
    for name in ("sam2clip_vith_rn50x16.pth", "clip2sam_lvis_rn50x16.pth"):
        (official / name).touch()
    assert identify(official) == "ovsam_lvis"
    stray = tmp_path / "notes.txt"
    stray.write_text("roof")
    with pytest.raises(CheckpointError, match="no known model of words"):
        identify(stray)


def test_an_absent_file_is_told_with_its_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOMAINSAM_WEIGHTS", str(tmp_path))
    wanted = VOCABULARIES["ovsam_coco"].files[0]
    with pytest.raises(
        WeightsError, match=r"needs sam2clip_vith_rn50x16\.pth.*download https://.*ovsam_coco:FOL"
    ):
        find_file("ovsam_coco", wanted)
    (tmp_path / wanted.file).touch()
    assert find_file("ovsam_coco", wanted) == tmp_path / wanted.file


def test_a_strangers_rows_are_found_and_what_is_broken_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "stranger_words.py").write_text(STRANGER)
    metadata = tmp_path / "stranger_words-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: stranger-words\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(ENTRIES)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "stranger_words", raising=False)
    with caplog.at_level(logging.WARNING):
        assert set(find_vocabularies()) == {*VOCABULARIES, "parrot"}
    assert "'fake' of stranger_words:ROWS is left out" in caplog.text
    assert "json:dumps is a function, expected a VocabularySpec" in caplog.text
    assert "'broken' cannot be imported" in caplog.text
    assert isinstance(load_vocabulary_model("parrot"), FakeNamer)


def test_names_are_chosen_of_scores() -> None:
    words = [Word("roof"), Word("tree")]
    scores = np.array([[0.6, 0.3], [0.2, 0.3], [np.nan, np.nan], [0.1, 0.8]], np.float32)
    named = choose_names(scores, words)
    assert astuple(named[0]) == ("roof", pytest.approx(0.6), "tree", pytest.approx(0.3), True)
    assert astuple(named[1]) == (None, pytest.approx(0.5), "tree", pytest.approx(0.3), True)
    assert named[2] == Named(None, 0.0, answered=False)
    assert named[3].word == "tree"
    assert count_names(named) == {"words": {"roof": 1, "tree": 1}, "none_fits": 1, "unanswered": 1}
    alone = choose_names(scores[:1, :1], words[:1])[0]
    assert astuple(alone) == ("roof", pytest.approx(0.6), None, 0.0, True)
