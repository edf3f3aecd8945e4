"""Which model a run takes: a file, or one inside the package by name or method."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from domainsam.checkpoint import CheckpointHeader, model_file, read_header
from domainsam.errors import ConfigError
from domainsam_ct.settings import METHODS, Method

PACK = "ct"
WEIGHTS = Path(__file__).parents[1] / "weights"
SHIPPED: Mapping[Method, str] = {"specialist": "abdomen", "ladder": "abdomen_open"}
"""The model inside the package that is taken for each method."""


def find_model(given: str | Path | None = None, method: Method | None = None) -> Path:
    """File of a model: the one that was named, else that of the method inside the package.

    Parameters
    ----------
    given
        A file, or the name of one inside the package without its ending.
    method
        What the model has to be; None for any.

    Raises
    ------
    WeightsError
        If none was named and the package has none.
    CheckpointError
        If the file is absent or damaged.
    ConfigError
        If it is of another method.
    """
    if given is None:
        name = SHIPPED[METHODS[0] if method is None else method]
        return model_file(None, WEIGHTS / f"{name}.safetensors", PACK, "organ")
    path, named = Path(given), WEIGHTS / f"{given}.safetensors"
    if not path.is_file() and path.name == str(given) and named.is_file():
        path = named
    if method is not None:
        own = find_method(read_header(path))
        if own != method:
            raise ConfigError(
                f"model {given} is a {own}, and --method asks for a {method}: leave --method out, "
                f"or take --model {SHIPPED[method]}"
            )
    return path


def find_method(header: CheckpointHeader) -> str:
    """The method of a model file; those that do not say it are older than the specialist alone."""
    network = header.config.get("model", {}).get("network", {})
    return str(network.get("method", "ladder"))
