"""Tokens of two words, such as Yes and No, and whether a row of them is one token each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from domainsam.errors import CheckpointError


@dataclass(frozen=True)
class WordTokens:
    """Ids of the two words.

    Parameters
    ----------
    first, second
        All ids that begin each word where it stands alone: with and without a space, in small letters and
        capitals; ids that begin both are in neither.
    row
        The id of each where words follow each other with nothing between; None where a row of them is not
        one token each, so that the position of an answer would not tell which point it belongs to.
    """

    first: tuple[int, ...]
    second: tuple[int, ...]
    row: tuple[int, int] | None


def find_word_tokens(tokenizer: Any, words: tuple[str, str]) -> WordTokens:
    """Look up the ids of two words in a tokenizer, and verify them.

    Raises
    ------
    CheckpointError
        If it cannot tell one word from the other by its first token.
    """
    coded = [[encode(tokenizer, form) for form in _forms(word)] for word in words]
    starts = [{ids[0] for ids in forms if ids} for forms in coded]
    unknown = getattr(tokenizer, "unk_token_id", None)
    common = (starts[0] & starts[1]) | {unknown}
    first, second = (tuple(sorted(found - common)) for found in starts)
    if not first or not second:
        raise CheckpointError(
            f"the model's tokenizer cannot tell '{words[0]}' from '{words[1]}' by their first token, so its "
            "confidence cannot be read: use --mode ppg, or other words in a --wording file"
        )
    return WordTokens(first, second, _row(tokenizer, words))


def _row(tokenizer: Any, words: tuple[str, str]) -> tuple[int, int] | None:
    """The ids of words in a row, if every order of them is one token each and reads back as written."""
    alone = [encode(tokenizer, word) for word in words]
    if any(len(ids) != 1 for ids in alone):
        return None
    one, other = alone[0][0], alone[1][0]
    for order in ((0, 1, 1, 0), (1, 1, 1), (0, 0, 0), (1, 0)):
        text = "".join(words[place] for place in order)
        ids = [(one, other)[place] for place in order]
        if encode(tokenizer, text) != ids or tokenizer.decode(ids).strip() != text:
            return None
    return one, other


def encode(tokenizer: Any, text: str) -> list[int]:
    """Ids of a text without special tokens."""
    return list(map(int, tokenizer.encode(text, add_special_tokens=False)))


def _forms(word: str) -> tuple[str, ...]:
    spelled = dict.fromkeys((word, word.lower(), word.capitalize(), word.upper()))
    return (*spelled, *(f" {form}" for form in spelled))
