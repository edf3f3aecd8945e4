"""No file causes a connection: what GDAL may open is this machine's, unless the user says otherwise.

A virtual raster, a service description or a catalogue can name addresses, and
GDAL would open them. An address that the user typed is opened, and that one
alone; all others are refused unless :attr:`domainsam.limits.Limits.network` is set.

GDAL's settings: ``CPL_VSIL_CURL_ALLOWED_FILENAME``, the only name that its
network file systems then open (https://gdal.org/en/stable/user/configoptions.html);
``GDAL_SKIP``, drivers that are not registered, read when the first file is opened.
"""

from __future__ import annotations

import html
import os
import re
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

from domainsam.errors import InputError
from domainsam.limits import get_limits
from domainsam.names import show
from domainsam.remote import endpoint_settings

ONLY_NAME = "CPL_VSIL_CURL_ALLOWED_FILENAME"
NOTHING = "none"
SERVICES = (
    *(
        "HTTP",
        "WMS",
        "WMTS",
        "WCS",
        "DAAS",
        "EEDA",
        "EEDAI",
        "PLMOSAIC",
        "PLSCENES",
        "NGW",
        "OGCAPI",
        "OAPIF",
    ),
    *("WFS", "CSW", "AmigoCloud", "Carto", "Elasticsearch", "STACIT", "STACTA", "GDALG"),
)
"""Drivers of GDAL that speak with servers, or run what a file says."""
REMOTE = re.compile(
    r"/vsi(?:curl|s3|gs|az|adls|oss|swift|hdfs|webhdfs)(?:_streaming)?[/?]|\b(?!file:)[a-z][a-z0-9+.-]+://",
    re.IGNORECASE,
)
"""Names of GDAL's network file systems, and addresses with a scheme."""
DRIVER_PREFIX = re.compile(rf"(?:{'|'.join(SERVICES)}):", re.IGNORECASE)
NAMED = re.compile(
    rb"<(SourceFilename|SourceDataset|SrcDataSource|ServerUrl|ServiceURL|GetCapabilitiesUrl|URL)\b([^>]*)>"
    rb"\s*([^<]{1,2000})",
    re.IGNORECASE,
)
"""Where XML files that GDAL opens say what is to be opened in their place."""
SERVICE_ROOTS = re.compile(
    rb"<(?:GDAL_WMS|GDAL_WMTS|WCS_GDAL|WMT_MS_Capabilities|WMS_Capabilities|OGRWFSDataSource|OGRCSWDataSource)\b"
)
RELATIVE = re.compile(rb"relativeToVRT\s*=\s*[\"']1", re.IGNORECASE)
SUBDATASET = re.compile(r"[A-Za-z0-9_]{2,}:")
"""How names of a part of a file begin: with that of GDAL's driver."""
DEPTH = 8
MOST_TEXT = 16 << 20
"""Bytes of a description that are looked at; GDAL's own setting stops whatever comes later."""


def is_remote(name: str) -> bool:
    """Whether a name means something that is not on this machine."""
    return bool(REMOTE.search(name) or DRIVER_PREFIX.match(name))


def require_local(name: str, origin: object) -> str:
    """A name that a file holds, unchanged, if it means something on this machine or the network is allowed.

    Parameters
    ----------
    origin
        The file, for the message.

    Raises
    ------
    InputError
        If it is an address on the network.
    """
    if is_remote(name) and not get_limits().network:
        raise InputError(
            f"{origin}: names {show(name)[:100]}, which is not on this machine; download it first, or allow "
            "connections with --allow-network"
        )
    return name


def require_local_content(path: str | Path, depth: int = DEPTH) -> None:
    """Refuse a file that describes a service, or names an address as what is to be opened in its place.

    Virtual rasters are followed to those that they name, for GDAL fills what it cannot open two levels down
    with zeros.

    Raises
    ------
    InputError
        If it does and the network is not allowed, or a file that it names is not there.
    """
    path = Path(path)
    text = b"" if get_limits().network else _read_description(path)
    if SERVICE_ROOTS.search(text):
        raise InputError(
            f"{path}: describes a service on the network; download what you need of it, or allow "
            "connections with --allow-network"
        )
    for tag, attributes, named in NAMED.findall(text):
        name = require_local(html.unescape(named.decode("utf-8", "replace")).strip(), path)
        if tag.lower() != b"sourcefilename" or name.startswith("/vsi") or SUBDATASET.match(name):
            continue
        inner = path.parent / name if RELATIVE.search(attributes) else Path(name)
        if not inner.exists():
            raise InputError(f"{path}: names {show(name)[:100]}, which is not there; copy it along")
        if not depth:
            raise InputError(f"{path}: names files that name files, more than {DEPTH} deep; flatten it")
        require_local_content(inner, depth - 1)


def _read_description(path: Path) -> bytes:
    """The text of a file that begins as XML; nothing of any other."""
    if not path.is_file():
        return b""
    with path.open("rb") as file:
        start = file.read(256).lstrip(b"\xef\xbb\xbf \t\r\n")
        return start + file.read(MOST_TEXT) if start.startswith(b"<") else b""


def gdal_settings(path: str | Path = "") -> dict[str, Any]:
    """GDAL's settings while ``path``, which the user named, is open: no other address is opened."""
    settings = endpoint_settings() if is_remote(str(path)) else {}
    if get_limits().network:
        return settings
    return {**settings, ONLY_NAME: _as_gdal_names(str(path)), "GML_DOWNLOAD_SCHEMA": "NO"}


def _as_gdal_names(path: str) -> str:
    """The name under which GDAL's network file systems see an address; :data:`NOTHING` for files."""
    found = REMOTE.search(path)
    if found is None:
        return NOTHING
    inner = path[found.start() :]
    return inner if inner.startswith("/vsi") else f"/vsicurl/{inner}"


def lock_process(environment: MutableMapping[str, str] = os.environ) -> None:
    """Have GDAL leave out drivers of services in this process; before its first file is opened.

    What the environment says already stays.
    """
    environment.setdefault("GDAL_SKIP", ",".join(SERVICES))
    environment.setdefault("GML_DOWNLOAD_SCHEMA", "NO")
