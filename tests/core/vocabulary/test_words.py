"""Vocabularies are read as a person means them, and what cannot be meant is refused in a line."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from domainsam.errors import ConfigError, InputError, MissingInputError
from domainsam.protocols import Word
from domainsam.vocabulary.words import LONGEST, MOST_WORDS, gather_words, join_words, read_words, without


def write(folder: Path, content: str | bytes) -> Path:
    path = folder / "words.txt"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_a_file_of_words_synonyms_and_comments(tmp_path: Path) -> None:
    path = write(
        tmp_path, "# roofs\n\nroof, rooftop,  house   roof\r\nswimming pool\tpool\n  # tree\nécole\n"
    )
    assert read_words(path) == (
        Word("roof", ("rooftop", "house roof")),
        Word("swimming pool", ("pool",)),
        Word("école"),
    )


def test_a_mark_of_byte_order_and_composed_letters_do_not_count(tmp_path: Path) -> None:
    path = write(tmp_path, b"\xef\xbb\xbf" + "e\u0301cole".encode())
    assert read_words(path) == (Word("école"),)


@pytest.mark.parametrize("text", ["屋根", "крыша, кровля", "سقف", "छत", "🏠 house"])
def test_other_scripts_are_words(tmp_path: Path, text: str) -> None:
    assert read_words(write(tmp_path, text))[0].name == text.split(",")[0]


def test_doubles_are_taken_once_and_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path, "roof, rooftop\ntree\nRoof, house top\nROOFTOP, roof\n")
    with pytest.raises(InputError, match="'ROOFTOP' stands for 'roof' and for 'ROOFTOP'"):
        read_words(path)
    path = write(tmp_path, "roof, rooftop\ntree\nRoof, house top, ROOF\n")
    with caplog.at_level(logging.WARNING):
        assert read_words(path) == (Word("roof", ("rooftop", "house top")), Word("tree"))
    assert "given more than once, taken once: Roof" in caplog.text


def test_a_thousand_words_are_words_and_too_many_are_not() -> None:
    thousand = [Word(f"word {number}") for number in range(1000)]
    assert join_words(thousand, "here") == tuple(thousand)
    with pytest.raises(InputError, match=f"here: {MOST_WORDS + 1} words; expected at most {MOST_WORDS}"):
        join_words([Word(f"w{number}") for number in range(MOST_WORDS + 1)], "here")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "holds no word; expected one a line"),
        ("# only\n \n", "holds no word"),
        ("roof\n,,,\n", "line 2: is empty; expected a word"),
        ("roof\n...\n", r"line 2: '...' has no letter and no digit"),
        ("a" * (LONGEST + 1), f"has {LONGEST + 1} characters; expected a word or a short phrase"),
        ("roof\nri\x07ver\n", "line 2: .* holds control characters"),
        (b"roof\n\xe9cole\n", "line 2: is not UTF-8; save the file as UTF-8"),
        ("roof".encode("utf-16"), "is text in UTF-16; save it as UTF-8"),
        (b"\x89PNG\r\n\x00\x00", "is no text; expected words in UTF-8"),
    ],
)
def test_a_file_that_cannot_be_meant(tmp_path: Path, content: str | bytes, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read_words(write(tmp_path, content))
    assert "words.txt" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="no such file of words"):
        read_words(tmp_path / "absent.txt")


def test_words_one_by_one_and_of_a_file(tmp_path: Path) -> None:
    path = write(tmp_path, "tree\nRoof\n")
    assert gather_words(["roof, rooftop"], path) == (Word("roof", ("rooftop",)), Word("tree"))
    assert gather_words("roof") == (Word("roof"),)
    with pytest.raises(ConfigError, match="no words are given"):
        gather_words()
    with pytest.raises(ConfigError, match="--words '': is empty"):
        gather_words([""])
    with pytest.raises(ConfigError, match="--words: 'pool' stands for 'lake' and for 'pool'"):
        gather_words(["lake, pool", "pool"])


def test_words_without_others() -> None:
    words = (Word("road"), Word("roof", ("house",)), Word("tree"))
    assert without(words, [Word("House"), Word("street", ("ROAD",))]) == (Word("tree"),)
