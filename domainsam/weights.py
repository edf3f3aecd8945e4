"""Published weight files: list, find, fetch and verify them.

Nothing here touches the network unless :func:`fetch` is called.
"""

from __future__ import annotations

import hashlib
import http
import http.client
import logging
import os
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from domainsam.errors import OutputError, WeightsError
from domainsam.foundations import (
    FOUNDATIONS,
    IMAGENET,
    SAM_PIXELS,
    Normalisation,
    WeightFile,
    find_foundations,
)
from domainsam.machine import find_user_cache

__all__ = [
    "FOLDER_VARIABLE",
    "IMAGENET",
    "KNOWN",
    "SAM_PIXELS",
    "Normalisation",
    "WeightFile",
    "fetch",
    "file_sha256",
    "find_cache_folder",
    "find_known",
    "find_user_cache",
    "find_weights",
    "list_search_folders",
    "locate_weights",
    "published",
    "read_record",
    "record_first_use",
    "verify",
]

log = logging.getLogger(__name__)

FOLDER_VARIABLE = "DOMAINSAM_WEIGHTS"
RECORD = ".sha256"
"""Ending of the file beside a weight file that holds its checksum at first use."""
CHUNK = 1 << 20
TIMEOUT = 30.0
"""Seconds without a byte after which a download counts as broken; what has arrived is kept."""


KNOWN: dict[str, WeightFile] = {
    row.name: row.weights for row in FOUNDATIONS.values() if row.weights is not None
}
"""Official files of this package's foundations."""


def published() -> dict[str, WeightFile]:
    """Official files of all foundations, those of installed packages too."""
    rows = find_foundations().values()
    return KNOWN | {row.name: row.weights for row in rows if row.weights and row.name not in KNOWN}


def find_cache_folder() -> Path:
    """Where fetched files go: ``$DOMAINSAM_WEIGHTS``, otherwise the platform's cache folder."""
    return list_search_folders()[0]


def list_search_folders() -> list[Path]:
    """Where weight files are looked for: first ``$DOMAINSAM_WEIGHTS``, then the platform's cache folder."""
    folders = [find_user_cache() / "weights"]
    if chosen := os.environ.get(FOLDER_VARIABLE):
        folders.insert(0, Path(chosen).expanduser())
    return folders


def find_known(name: str) -> WeightFile:
    """The weight file of that name.

    Raises
    ------
    WeightsError
        If there is none.
    """
    files = KNOWN if name in KNOWN else published()
    if name not in files:
        raise WeightsError(f"no published weights are named {name!r}; known: {', '.join(files)}")
    return files[name]


def locate_weights(name: str) -> Path | None:
    """Path of a published file on this machine, None where it is not there.

    Raises
    ------
    WeightsError
        If no file is published under that name.
    """
    entry = find_known(name)
    places = (folder / file for folder in list_search_folders() for file in (entry.file, *entry.also))
    return next((place for place in places if place.is_file()), None)


def find_weights(name: str) -> Path:
    """Path of a published file on this machine.

    Raises
    ------
    WeightsError
        If it is not there; the text says which command or address gets it and where it belongs.
    """
    found = locate_weights(name)
    if found is not None:
        return found
    entry = find_known(name)
    candidates = [folder / entry.file for folder in list_search_folders()]
    if not entry.url:
        raise WeightsError(
            f"no weights of {name} are published, and there is no file of your own at "
            f"{' or '.join(map(str, candidates))}: put one there, or give its path instead of the name"
        )
    raise WeightsError(
        f"weights of {name} not found at {' or '.join(map(str, candidates))}: "
        f"run 'domainsam weights fetch {name}' ({entry.megabytes} MB, {entry.licence}), "
        f"or download {entry.url} yourself and put it there, "
        f"or set ${FOLDER_VARIABLE} to the folder that holds it"
    )


def locate_folder(name: str) -> Path | None:
    """The folder of that name with a model of Hugging Face's layout, where weight files are looked for."""
    for folder in list_search_folders():
        if (folder / name / "config.json").is_file():
            return folder / name
    return None


def find_folder(name: str, source: str) -> Path:
    """As :func:`locate_folder`; ``source`` says where its files come from.

    Raises
    ------
    WeightsError
        If it is nowhere.
    """
    found = locate_folder(name)
    if found is None:
        places = " or ".join(str(folder / name) for folder in list_search_folders())
        raise WeightsError(
            f"{name}: name the folder of its weights, {name}:FOLDER, or put it at {places}; {source}"
        )
    return found


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def read_record(path: Path) -> str | None:
    """SHA-256 that a weight file had when it was first used, None where nothing is recorded."""
    try:
        words = path.with_name(path.name + RECORD).read_text(encoding="ascii").split()
    except (OSError, UnicodeDecodeError):
        return None
    return words[0] if words else None


def record_first_use(name: str, path: Path, found: str | None = None) -> str | None:
    """Record the SHA-256 of a file that no checksum is published for; None where one is, or it was recorded.

    The record lies beside the file as ``FILE.sha256``, in the form that ``sha256sum --check`` reads.
    Where it cannot be written, the next use is a first one again. ``found`` is the file's SHA-256 where
    somebody has reckoned it already.
    """
    if find_known(name).sha256 is not None or read_record(path) is not None:
        return None
    found = found or file_sha256(path)
    try:
        path.with_name(path.name + RECORD).write_text(f"{found}  {path.name}\n", encoding="ascii")
    except OSError:
        log.debug("%s cannot be written", path.name + RECORD)
    return found


def verify(name: str, path: Path | None = None) -> Path:
    """Check a published file's checksum and return its path.

    A file that no checksum is published for is compared with the one of its
    first use (:func:`record_first_use`), which is recorded if this is it.

    Raises
    ------
    WeightsError
        If it is absent or differs from the published one.
    """
    entry = find_known(name)
    path = path or find_weights(name)
    if not path.is_file():
        raise WeightsError(f"weight file {path} does not exist")
    found = file_sha256(path)
    if entry.sha256 is None:
        recorded = read_record(path)
        if recorded is None:
            record_first_use(name, path, found)
        elif recorded != found:
            raise WeightsError(
                f"{path} is not the file that was first used as {name}: its sha256 is {found}, then it was "
                f"{recorded}; if you changed it yourself, delete {path.name + RECORD}, else fetch it again"
            )
    elif found != entry.sha256:
        raise WeightsError(
            f"{path} is not the published file of {name}: its sha256 is {found}, expected {entry.sha256}; "
            "if it is a file of your own, keep it and give its path to --foundation; if it should be the "
            f"published one, move it away and run 'domainsam weights fetch {name}'"
        )
    return path


Progress = Callable[[int, int | None], None]
"""Called with the bytes on disk so far, and the whole size where it is known."""


def fetch(
    name: str, folder: Path | None = None, progress: Progress | None = None, timeout: float = TIMEOUT
) -> Path:
    """Download a published file, going on where an earlier attempt stopped.

    Bytes go to a ``.part`` file that gets its final name only after the
    checksum agrees. A good file is left alone. Proxies are taken from the
    standard environment variables (``https_proxy``, ``no_proxy``).

    Parameters
    ----------
    name
        A key of :func:`published`.
    folder
        Where to put it; :func:`find_cache_folder` by default.
    progress
        Told after every chunk.
    timeout
        Seconds to wait for the next byte.

    Raises
    ------
    WeightsError
        If the address cannot be reached, the connection breaks, or the checksum is wrong.
    OutputError
        If the folder cannot be written.
    """
    entry = find_known(name)
    if not entry.url:
        raise WeightsError(f"no weights of {name} are published; train some, and give the path of the file")
    target = (folder or find_cache_folder()) / entry.file
    if target.is_file():
        return verify(name, target)
    part = target.with_name(target.name + ".part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with part.open("ab"):
            pass
    except OSError as error:
        raise OutputError(f"cannot write {part}: {error.strerror}; choose another folder") from error
    _download(entry, part, progress, timeout)
    found = file_sha256(part)
    if entry.sha256 is not None and found != entry.sha256:
        part.unlink()
        raise WeightsError(
            f"{entry.url} gave a file whose sha256 is {found}, expected {entry.sha256}; it was discarded: "
            "try again, or ask whether a proxy alters downloads"
        )
    part.replace(target)
    record_first_use(name, target, found)
    return target


def _download(entry: WeightFile, part: Path, progress: Progress | None, timeout: float) -> None:
    """Append to ``part`` what is missing of the file."""
    have = part.stat().st_size
    request = urllib.request.Request(entry.url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        # An opener of our own reads the proxy variables now, not when the process first used one.
        with urllib.request.build_opener().open(request, timeout=timeout) as answer:
            if have and answer.status != http.HTTPStatus.PARTIAL_CONTENT:
                have = 0  # The server ignores ranges and starts from the beginning.
            length = answer.headers.get("Content-Length")
            total = have + int(length) if length else None
            have = _append(answer, part, have, total, progress)
    except urllib.error.HTTPError as error:
        # 416: nothing is left to send, so the part is complete, and its checksum decides.
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return
        raise WeightsError(f"{entry.url} answered {error.code} {error.reason}; try again later") from error
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
        raise WeightsError(
            f"download of {entry.url} broke off after {part.stat().st_size} bytes ({error}); "
            f"run 'domainsam weights fetch {entry.name}' again to go on from there"
        ) from error
    if total is not None and have < total:
        raise WeightsError(
            f"download of {entry.url} broke off after {have} of {total} bytes; "
            f"run 'domainsam weights fetch {entry.name}' again to go on from there"
        )


def _append(
    answer: http.client.HTTPResponse, part: Path, have: int, total: int | None, progress: Progress | None
) -> int:
    """Write an answer's body behind the first ``have`` bytes of ``part``; returns its new length."""
    with part.open("r+b") as file:
        file.truncate(have)
        file.seek(have)
        while chunk := answer.read(CHUNK):
            try:
                file.write(chunk)
            except OSError as error:
                raise OutputError(f"cannot write {part}: {error.strerror}; free some space") from error
            have += len(chunk)
            if progress is not None:
                progress(have, total)
    return have
