"""Published weight files: what they are, where they are, and how to get and check them.

Nothing here touches the network unless :func:`fetch` is called.
"""

from __future__ import annotations

import hashlib
import http
import http.client
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from domainsam.errors import OutputError, WeightsError

FOLDER_VARIABLE = "DOMAINSAM_WEIGHTS"
CHUNK = 1 << 20
TIMEOUT = 30.0
"""Seconds without a byte after which a download counts as broken; what has arrived is kept."""


@dataclass(frozen=True)
class Normalisation:
    """RGB mean and standard deviation on the scale 0 to 1."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


IMAGENET = Normalisation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
SAM_PIXELS = Normalisation(
    (123.675 / 255, 116.28 / 255, 103.53 / 255), (58.395 / 255, 57.12 / 255, 57.375 / 255)
)
"""``pixel_mean`` and ``pixel_std`` of ``segment_anything.build_sam``, there on the scale 0 to 255."""


@dataclass(frozen=True)
class WeightFile:
    """One official weight file.

    ``megabytes`` (10^6 bytes) is for information; ``sha256`` decides.
    """

    name: str
    file: str
    url: str
    sha256: str
    megabytes: int
    licence: str
    normalisation: Normalisation
    image_size: int


SAM_ADDRESS = "https://dl.fbaipublicfiles.com/segment_anything"
SAM2_ADDRESS = "https://dl.fbaipublicfiles.com/segment_anything_2"


def _sam(letter: str, mark: str, megabytes: int, sha256: str) -> WeightFile:
    file = f"sam_vit_{letter}_{mark}.pth"
    return WeightFile(
        f"sam_vit_{letter}", file, f"{SAM_ADDRESS}/{file}", sha256, megabytes, "Apache-2.0", SAM_PIXELS, 1024
    )


def _sam2(version: str, size: str, megabytes: int, sha256: str) -> WeightFile:
    name = f"{version}_hiera_{size}"
    folder = {"sam2": "072824", "sam2.1": "092824"}[version]
    url = f"{SAM2_ADDRESS}/{folder}/{name}.pt"
    return WeightFile(name, f"{name}.pt", url, sha256, megabytes, "Apache-2.0", IMAGENET, 1024)


# The checksums agree in several independent public projects that pin these files. The mark in
# SAM's file names is the start of the file's MD5, not of its SHA-256.
KNOWN: dict[str, WeightFile] = {
    entry.name: entry
    for entry in (
        _sam("b", "01ec64", 375, "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912"),
        _sam("l", "0b3195", 1250, "3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622"),
        _sam("h", "4b8939", 2565, "a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e"),
        _sam2("sam2.1", "tiny", 156, "7402e0d864fa82708a20fbd15bc84245c2f26dff0eb43a4b5b93452deb34be69"),
        _sam2("sam2.1", "small", 184, "6d1aa6f30de5c92224f8172114de081d104bbd23dd9dc5c58996f0cad5dc4d38"),
        _sam2("sam2.1", "base_plus", 324, "a2345aede8715ab1d5d31b4a509fb160c5a4af1970f199d9054ccfb746c004c5"),
        _sam2("sam2.1", "large", 898, "2647878d5dfa5098f2f8649825738a9345572bae2d4350a2468587ece47dd318"),
        _sam2("sam2", "tiny", 156, "65b50056e05bcb13694174f51bb6da89c894b57b75ccdf0ba6352c597c5d1125"),
        _sam2("sam2", "small", 184, "95949964d4e548409021d47b22712d5f1abf2564cc0c3c765ba599a24ac7dce3"),
        _sam2("sam2", "base_plus", 324, "d0bb7f236400a49669ffdd1be617959a8b1d1065081789d7bbff88eded3a8071"),
        _sam2("sam2", "large", 898, "7442e4e9b732a508f80e141e7c2913437a3610ee0c77381a66658c3a445df87b"),
    )
}


def cache_folder() -> Path:
    """Where fetched files go: ``$DOMAINSAM_WEIGHTS``, otherwise the platform's cache folder."""
    return search_folders()[0]


def search_folders() -> list[Path]:
    """Where weight files are looked for: first ``$DOMAINSAM_WEIGHTS``, then the platform's cache folder."""
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folders = [base / "domainsam" / "weights"]
    if chosen := os.environ.get(FOLDER_VARIABLE):
        folders.insert(0, Path(chosen).expanduser())
    return folders


def known(name: str) -> WeightFile:
    """The weight file of that name.

    Raises
    ------
    WeightsError
        If there is none.
    """
    if name not in KNOWN:
        raise WeightsError(f"no published weights are named {name!r}; known: {', '.join(KNOWN)}")
    return KNOWN[name]


def find_weights(name: str) -> Path:
    """Path of a published file on this machine.

    Raises
    ------
    WeightsError
        If it is not there; the text says which command or address gets it and where it belongs.
    """
    entry = known(name)
    candidates = [folder / entry.file for folder in search_folders()]
    for path in candidates:
        if path.is_file():
            return path
    raise WeightsError(
        f"weights of {name} not found at {' or '.join(map(str, candidates))}: "
        f"run 'domainsam weights fetch {name}' ({entry.megabytes} MB, {entry.licence}), "
        f"or download {entry.url} yourself and put it there, "
        f"or set ${FOLDER_VARIABLE} to the folder that holds it"
    )


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def verify(name: str, path: Path | None = None) -> Path:
    """Check a published file's checksum and return its path.

    Raises
    ------
    WeightsError
        If it is absent or differs from the published one.
    """
    entry = known(name)
    path = path or find_weights(name)
    if not path.is_file():
        raise WeightsError(f"weight file {path} does not exist")
    found = file_sha256(path)
    if found != entry.sha256:
        raise WeightsError(
            f"{path} is not the published file of {name}: its sha256 is {found}, expected {entry.sha256}; "
            f"delete it and run 'domainsam weights fetch {name}'"
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
        A key of :data:`KNOWN`.
    folder
        Where to put it; :func:`cache_folder` by default.
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
    entry = known(name)
    target = (folder or cache_folder()) / entry.file
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
    if found != entry.sha256:
        part.unlink()
        raise WeightsError(
            f"{entry.url} gave a file whose sha256 is {found}, expected {entry.sha256}; it was discarded: "
            "try again, or ask whether a proxy alters downloads"
        )
    part.replace(target)
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
