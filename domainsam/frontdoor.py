"""The main job of any pack by one call: ``domainsam.run``."""

from __future__ import annotations

from typing import Any

from domainsam.errors import missing_extra
from domainsam.limits import limited
from domainsam.packs import load_pack

LIMITS = {"max_memory": "memory", "allow_network": "network", "reproducible": "reproducible"}
"""Keywords that every pack's job takes, and the limits that they set."""


def run(pack: str, inputs: Any, out: Any = None, **options: Any) -> Any:
    """Run a pack's main job and return its result.

    Parameters
    ----------
    pack
        Name of an installed pack: ``"urban"``, ``"ct"``, ``"scene"`` or another's.
    inputs
        What the pack's command takes: a path; several paths; for ``scene`` a
        mapping of files by sensor. An ``xarray.DataArray`` (``urban``) or a
        ``nibabel`` image (``ct``) may stand where a path does.
    out
        Where the result goes, as ``-o``. It may be left out where an array was
        given: the answer then comes back as the same kind of array.
    **options
        The options of the pack's command by their names, ``min_area=1000`` for
        ``--min-area 1000``; ``domainsam PACK COMMAND --help`` lists them.
        ``max_memory``, ``allow_network`` and ``reproducible`` hold for this call,
        see :class:`domainsam.limits.Limits`.

    Returns
    -------
    The pack's own result: of one input its result, of several a batch with
    ``results``, ``failures`` (reasons by input) and ``complete`` (inputs that
    ``resume`` passed over).

    Raises
    ------
    PackError
        If no such pack is installed or it has no job to run.
    ConfigError
        If an option is unknown, the nearest being named, or has an impossible value.
    DependencyError
        If a package is not installed that an extra has; the message says which.
    DomainSamError
        Of a single input, whatever made it fail.

    Examples
    --------
    >>> domainsam.run("urban", "scene.tif", "settlements.gpkg", min_area=1000)  # doctest: +SKIP
    >>> domainsam.run("ct", "ct.nii.gz", "organs.nii.gz").organs  # doctest: +SKIP
    >>> domainsam.run("scene", {"rgb": "a.png", "depth": "a_d.png"}, "map.png")  # doctest: +SKIP
    """
    job = load_pack(pack).load("run")
    limits = {name: options.pop(word) for word, name in LIMITS.items() if word in options}
    try:
        with limited(**limits):
            return job(inputs, out, **options)
    except ModuleNotFoundError as error:
        if missing := missing_extra(error):
            raise missing from error
        raise
