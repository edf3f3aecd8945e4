"""Outputs in object stores: files are made here, put there, and said to be done by an object of their own.

Addresses (``s3://bucket/key``, and whatever else fsspec has a package for) are
used only where the user types them. Credentials are the environment's business,
as of any tool of that store: they are neither taken as options nor told.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

from domainsam.errors import DependencyError, OutputError

SCHEMES = {"s3": "/vsis3/", "gs": "/vsigs/", "az": "/vsiaz/"}
"""Stores that outputs may go to, and how GDAL calls them."""
_STORE = re.compile(rf"({'|'.join(SCHEMES)}):/+(.+)")
DONE = ".domainsam"
"""Folder, beside the outputs of an input, of the objects that say that they are all there."""
PIECE = 1 << 22
_tried: set[str] = set()
"""Folders of stores in which this process has written a trial object."""
SECRET = re.compile(r"(?i)(key|token|secret|signature|credential)[^\s=:]*[=:]\s*\S+")


def find_address(path: Path | str) -> str | None:
    """The address that a path, which loses a slash, stands for; None for files of this machine."""
    found = _STORE.fullmatch(str(path))
    return None if found is None else f"{found[1]}://{found[2]}"


def to_gdal(name: str) -> str:
    """How GDAL calls what is in an object store; other names as they are."""
    found = _STORE.fullmatch(name)
    return name if found is None else f"{SCHEMES[found[1]]}{found[2]}"


def endpoint_settings(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """GDAL's settings for the endpoint that AWS's own tools take from ``AWS_ENDPOINT_URL``."""
    given = environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL")
    if not given or "AWS_S3_ENDPOINT" in environment:
        return {}
    parts = urlsplit(given)
    secure = "YES" if parts.scheme == "https" else "NO"
    return {"AWS_S3_ENDPOINT": parts.netloc, "AWS_HTTPS": secure, "AWS_VIRTUAL_HOSTING": "FALSE"}


def done_address(address: str) -> str:
    """Where it says that an input is done whose first output is at an address."""
    folder, _, name = address.rpartition("/")
    return f"{folder}/{DONE}/{name}.json"


def read_done(addresses: Sequence[str]) -> dict[str, Any] | None:
    """What says that outputs at some addresses are all there; None if it is not so.

    Raises
    ------
    OutputError
        If the store does not answer.
    """
    with _store(addresses[0]) as store:
        mark = done_address(addresses[0])
        if not store.exists(mark):
            return None
        try:
            document = json.loads(store.cat_file(mark))
            sizes = {str(file["address"]): int(file["bytes"]) for file in document["files"]}
        except (ValueError, KeyError, TypeError):
            return None
        if set(sizes) != set(addresses):
            return None
        for address, size in sizes.items():
            if not store.exists(address) or int(store.size(address)) != size:
                return None
        return dict(document)


def check_addresses(addresses: Sequence[str], overwrite: bool) -> None:
    """Refuse outputs that exist, or a store that does not answer, before any work.

    Raises
    ------
    OutputError
        If one exists and may not be replaced, or the store cannot be reached.
    """
    folder = done_address(addresses[0]).rpartition("/")[0]
    with _store(addresses[0]) as store:
        there = [address for address in addresses if store.exists(address)]
        if folder not in _tried:
            # A bucket that is not there, or may not be written to, is found out now and not after hours.
            trial = f"{folder}/{uuid4().hex}"
            store.pipe_file(trial, b"trial")
            store.rm_file(trial)
            _tried.add(folder)
    if there and not overwrite:
        raise OutputError(f"output '{there[0]}' exists: choose another name, or allow it with --overwrite")


def any_there(addresses: Sequence[str]) -> bool:
    """Whether there is anything at one of the addresses.

    Raises
    ------
    OutputError
        If the store does not answer.
    """
    with _store(addresses[0]) as store:
        return any(store.exists(address) for address in addresses)


def tell_place(path: Path | str) -> str:
    """A path as people write it; an address with both its slashes."""
    return find_address(path) or str(path)


def put_files(pairs: Sequence[tuple[Path, str]]) -> None:
    """Put files where they belong, then the object that says that they are all there.

    Parameters
    ----------
    pairs
        Files of this machine and their addresses.

    Raises
    ------
    OutputError
        If the store refuses one; nothing then says that they are there.
    """
    first = pairs[0][1]
    with _store(first) as store:
        mark = done_address(first)
        if store.exists(mark):
            store.rm_file(mark)
        files = []
        for path, address in pairs:
            store.put_file(str(path), address)
            facts = {"bytes": path.stat().st_size, "sha256": _digest(path)}
            files.append({"address": address, **facts})
        store.pipe_file(mark, json.dumps({"files": files}, indent=1).encode() + b"\n")
        store.invalidate_cache()


@contextmanager
def _store(address: str) -> Iterator[Any]:
    """The store of an address; what goes wrong with it is one line without credentials.

    Raises
    ------
    DependencyError
        If the package that speaks with it is not installed.
    OutputError
        If it refuses, or does not answer.
    """
    scheme = address.partition(":")[0]
    try:
        import fsspec

        store = fsspec.filesystem(scheme, skip_instance_cache=True, use_listings_cache=False)
    except ImportError as error:
        raise DependencyError(
            f"'{scheme}://' needs a package of fsspec that is not installed: run pip install "
            "'domainsam[scale]' for s3, gcsfs for gs, adlfs for az"
        ) from error
    try:
        yield store
    except OutputError:
        raise
    except Exception as error:
        reason = SECRET.sub(r"\1=...", " ".join(str(error).split()))[:160] or type(error).__name__
        raise OutputError(
            f"'{address}' cannot be used ({reason}): check the bucket, and the credentials and endpoint in "
            "the environment"
        ) from error


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            digest.update(piece)
    return digest.hexdigest()
