"""Names that stand for persons: made with a key, so that nobody can try names until one fits.

A hash of a name alone hides nothing: whoever has a list of names hashes them
all. Here it is HMAC with SHA-256 (RFC 2104) under a key that is the user's, or
made by chance for an output folder and kept beside its files, readable by its
owner alone. One folder gives one person one name, run after run.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from domainsam.errors import ConfigError, MissingInputError, OutputError
from domainsam.names import add_veil
from domainsam.private import hold, open_privately

KEY_ENDING = "pseudonyms.key"
"""Of a hidden file beside the outputs; without it the next run names the same persons otherwise."""
KEY_BYTES = 32
LEAST_KEY = 16
MOST_KEY = 4096
DIGITS = 10
"""Hexadecimal digits of a pseudonym: of 10,000 persons two share one with a probability of 1 in 20,000."""


def read_key(path: Path) -> bytes:
    """A key file of the user's: any bytes that nobody can guess.

    Raises
    ------
    MissingInputError
        If it cannot be read.
    ConfigError
        If it holds fewer than :data:`LEAST_KEY` bytes, or more than a key would.
    """
    try:
        with path.open("rb") as file:
            key = file.read(MOST_KEY + 1).strip()
    except OSError as error:
        raise MissingInputError(
            f"key file '{path}' cannot be read ({error.strerror}): check the path, or make one with "
            "`openssl rand -hex 32`"
        ) from error
    if not LEAST_KEY <= len(key) <= MOST_KEY:
        raise ConfigError(
            f"key file '{path}' holds {len(key)} bytes, expected {LEAST_KEY} to {MOST_KEY}: make one with "
            "`openssl rand -hex 32`"
        )
    return key


def find_key(out: Path, folder: bool) -> bytes:
    """The key of an output, made beside it where there is none yet.

    Parameters
    ----------
    out
        Where outputs go.
    folder
        Whether that is a folder. The key lies beside it and not in it: folders of results are passed on.

    Raises
    ------
    OutputError
        If it cannot be kept there, or what is there is a link or another user's.
    """
    out = out.absolute()
    path = out.with_name(f".{out.name}.{KEY_ENDING}" if folder else f".{KEY_ENDING}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = open_privately(path, os.O_RDWR | os.O_CREAT)
        with os.fdopen(descriptor, "r+b") as file:
            # Of two runs that begin at once, the second takes the key of the first.
            hold(descriptor)
            key = file.read(MOST_KEY)
            if len(key) < LEAST_KEY:
                key = secrets.token_hex(KEY_BYTES).encode()
                file.seek(0)
                file.write(key)
                file.flush()
                os.fsync(file.fileno())
    except OutputError:
        raise
    except OSError as error:
        raise OutputError(
            f"cannot keep the key of pseudonyms in '{path}' ({error.strerror}): choose a folder you may "
            "write to, or name a key file"
        ) from error
    return key


def make_pseudonym(text: str, key: bytes, kind: str) -> str:
    """What stands for a text: ``kind`` and :data:`DIGITS` hexadecimal digits."""
    return f"{kind}-{hmac.new(key, text.encode(), hashlib.sha256).hexdigest()[:DIGITS]}"


@dataclass(frozen=True)
class Veil:
    """Puts a public name in the place of what tells of a person, in every text that leaves.

    Parameters
    ----------
    public
        The name that may be known.
    hidden
        Texts that may not: paths and names of files.
    """

    public: str
    hidden: tuple[str, ...]

    def __call__(self, text: str) -> str:
        """The text without what is hidden, whatever stands around it."""
        for secret in sorted(self.hidden, key=len, reverse=True):
            if secret in text:
                text = re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", lambda _: self.public, text)
        return text


def hide_path(path: Path, public: str, names: Iterable[str] = ()) -> Callable[[str], str]:
    """From now on show ``public`` for a path, as typed or in full, and for further ``names``.

    Holds for whatever passes :func:`domainsam.names.show`: lines on the terminal, pages, tables and JSON.
    """
    full = path.absolute()
    veil = Veil(public, tuple({str(path), str(full), str(full.resolve()), *names} - {"", ".", public}))
    add_veil(veil)
    return veil
