"""Vocabularies: words that a person lists, in a file or one by one, checked before anything is computed."""

from __future__ import annotations

import logging
import re
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path

from domainsam.errors import ConfigError, InputError, MissingInputError
from domainsam.protocols import Word

log = logging.getLogger(__name__)

MOST_WORDS = 25_000
"""More than ImageNet-21k's 19 167 classes, the largest vocabulary that Open-Vocabulary SAM was tried on."""
LONGEST = 200
"""Characters of a phrase; CLIP reads 77 tokens, some 300 characters, together with its template."""
LARGEST_FILE = 8 << 20
"""Bytes of a file of words."""


def gather_words(
    words: str | Iterable[str] = (), vocabulary: str | Path | None = None, what: str = "--words"
) -> tuple[Word, ...]:
    """Words that are given one by one, then those of a file, none twice.

    Parameters
    ----------
    words
        Each as a line of a file: a word, and synonyms behind commas.
    vocabulary
        A file, see :func:`read_words`.
    what
        How the caller calls ``words``, for messages.

    Raises
    ------
    ConfigError
        If there is no word, one cannot be used, or one stands for two things.
    MissingInputError, InputError
        As :func:`read_words`.
    """
    listed = [words] if isinstance(words, str) else list(words)
    found: list[Word] = []
    for text in listed:
        try:
            found.append(parse_word(text))
        except ValueError as error:
            raise ConfigError(f"{what} {_shorten(text)!r}: {error}") from error
    try:
        joined = join_words(found, what)
    except InputError as error:
        raise ConfigError(str(error)) from error
    if vocabulary is not None:
        joined = join_words([*joined, *read_words(vocabulary)], str(vocabulary))
    if not joined:
        raise ConfigError(f"no words are given: expected some, such as {what} roof, or a file of words")
    return joined


def read_words(path: str | Path) -> tuple[Word, ...]:
    """The words of a text file: UTF-8, a word a line, synonyms behind commas or tabs.

    Empty lines and lines that begin with ``#`` say nothing. Case and further blanks do not part words.

    Raises
    ------
    MissingInputError
        If there is no such file.
    InputError
        If it is no text in UTF-8, holds no word, more than :data:`MOST_WORDS`, or a line that cannot be used.
    """
    path = Path(path)
    lines = _read_lines(path)
    found = []
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            found.append(parse_word(line))
        except ValueError as error:
            raise InputError(f"{path}, line {number}: {error}") from error
    if not found:
        raise InputError(f"{path}: holds no word; expected one a line, synonyms behind commas")
    return join_words(found, str(path))


def _read_lines(path: Path) -> list[str]:
    if not path.is_file():
        raise MissingInputError(f"{path}: no such file of words; check the path")
    size = path.stat().st_size
    if size > LARGEST_FILE:
        raise InputError(f"{path}: is {size} bytes; expected a text of words of at most {LARGEST_FILE} bytes")
    content = path.read_bytes()
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise InputError(f"{path}: is text in UTF-16; save it as UTF-8")
    if b"\0" in content:
        raise InputError(f"{path}: is no text; expected words in UTF-8, one a line")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise InputError(f"{path}, line {line}: is not UTF-8; save the file as UTF-8") from error
    return text.splitlines()


def parse_word(text: str) -> Word:
    """A word from its line: the name, and synonyms behind commas or tabs.

    Raises
    ------
    ValueError
        If a part is empty of letters and digits, too long, or holds control characters.
    """
    parts = [_clean(part) for part in re.split(r"[,\t;]", text.strip())]
    parts = [part for part in parts if part]
    if not parts:
        raise ValueError("is empty; expected a word, and synonyms behind commas")
    for part in parts:
        if not any(sign.isalnum() for sign in part):
            raise ValueError(f"{_shorten(part)!r} has no letter and no digit; expected a word")
        if len(part) > LONGEST:
            raise ValueError(
                f"{_shorten(part)!r} has {len(part)} characters; expected a word or a short phrase "
                f"of at most {LONGEST}"
            )
        if any(unicodedata.category(sign) in ("Cc", "Cs", "Co", "Cn") for sign in part):
            raise ValueError(f"{_shorten(part)!r} holds control characters; expected a word")
    return Word(parts[0], _without_doubles(parts))


def _clean(text: str) -> str:
    """Composed letters, single blanks, nothing at the ends."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def _without_doubles(parts: Sequence[str]) -> tuple[str, ...]:
    kept = {fold(part): part for part in reversed(parts)}
    return tuple(part for part in parts[1:] if kept.get(fold(part)) is part and fold(part) != fold(parts[0]))


def fold(text: str) -> str:
    """What two spellings of a word share: letters without case, single blanks."""
    return _clean(text).casefold()


def join_words(words: Iterable[Word], source: str) -> tuple[Word, ...]:
    """Words by name, each once: synonyms of a name that occurs again are added to it.

    Raises
    ------
    InputError
        If a phrase stands for two words, or there are more than :data:`MOST_WORDS`.
    """
    joined: dict[str, Word] = {}
    again = []
    for word in words:
        key = fold(word.name)
        if key in joined:
            again.append(word.name)
            word = Word(joined[key].name, _without_doubles((*joined[key].phrases, *word.phrases)))
        joined[key] = word
    if again:
        log.warning("%s: given more than once, taken once: %s", source, _list_some(again))
    if len(joined) > MOST_WORDS:
        raise InputError(f"{source}: {len(joined)} words; expected at most {MOST_WORDS}")
    owners: dict[str, str] = {}
    for word in joined.values():
        for phrase in word.phrases:
            other = owners.setdefault(fold(phrase), word.name)
            if fold(other) != fold(word.name):
                raise InputError(
                    f"{source}: {_shorten(phrase)!r} stands for {_shorten(other)!r} and for "
                    f"{_shorten(word.name)!r}; let it stand for one"
                )
    return tuple(joined.values())


def _list_some(names: Sequence[str], most: int = 5) -> str:
    listed = ", ".join(map(_shorten, names[:most]))
    return listed if len(names) <= most else f"{listed} and {len(names) - most} more"


def _shorten(text: str, most: int = 60) -> str:
    return text if len(text) <= most else f"{text[: most - 3]}..."


def without(words: Iterable[Word], others: Iterable[Word]) -> tuple[Word, ...]:
    """Words of which no phrase is one of the others'."""
    taken = {fold(phrase) for word in others for phrase in word.phrases}
    return tuple(word for word in words if not any(fold(phrase) in taken for phrase in word.phrases))
