"""Any pack's scene, opened for prompts: ``domainsam.open``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from domainsam.errors import ConfigError, missing_extra
from domainsam.opened.found import Found
from domainsam.opened.scene import Opened
from domainsam.packs import describe_file, load_pack

__all__ = ["Found", "Opened", "guess_pack", "open"]


def open(path: Any, pack: str | None = None, **how: Any) -> Opened:
    """Open a scene, a CT or a picture, to find in it what prompts say.

    Parameters
    ----------
    path
        A file or DICOM folder; for ``scene`` also files by sensor.
    pack
        Name of an installed pack; by default the only one that can describe the file.
    **how
        How it is read, as the pack's command says it: ``bands``, ``nodata`` and
        ``resolution`` for ``urban``, ``window`` and ``series`` for ``ct``,
        ``geotiff``, ``bands`` and ``range`` for ``scene``.

    Returns
    -------
    Opened
        For a ``with`` statement, or to be closed by hand.

    Raises
    ------
    PackError
        If there is no such pack, or it opens nothing.
    ConfigError
        If ``pack`` is left out and several packs read the file, or a keyword is unknown.
    InputError
        If the file cannot be read.

    Examples
    --------
    >>> with domainsam.open("scene.tif") as scene:  # doctest: +SKIP
    ...     scene.find(points=[(443_200, 4_412_300)]).save("one.gpkg")
    """
    chosen = load_pack(pack or guess_pack(path))
    opener = chosen.load("open")
    try:
        return Opened(chosen, opener(path, **how))
    except ModuleNotFoundError as error:
        if missing := missing_extra(error):
            raise missing from error
        raise


def guess_pack(path: Any) -> str:
    """Name of the only pack that can describe a file.

    Raises
    ------
    ConfigError
        If several can.
    InputError
        If none can.
    """
    if not isinstance(path, str | Path):
        raise ConfigError(f"a {type(path).__name__} does not say its pack; name it: pack='scene'")
    able = describe_file(str(path))
    if len(able) > 1:
        raise ConfigError(
            f"{path}: {' and '.join(able)} read such files; name one: pack='{next(iter(able))}'"
        )
    return next(iter(able))
