"""In the place of a model where an example says what is looked for."""

from __future__ import annotations

from dataclasses import dataclass, field

from domainsam.errors import ConfigError, MissingInputError
from domainsam.foundation import load_decoder
from domainsam.marks import MarkFiles
from domainsam_urban.model.settlement import MarkedObjects
from domainsam_urban.settings import LikeOptions, MapOptions


@dataclass(frozen=True)
class AlikeObjects(MarkedObjects):
    """What is looked for, and the foundation that compares and decodes."""

    like: LikeOptions = field(default_factory=LikeOptions)


def load_alike(options: MapOptions) -> AlikeObjects:
    """The foundation that looks for what an example shows.

    Raises
    ------
    ConfigError
        If no example is named, or the device is unknown or absent.
    MissingInputError
        If a file of examples does not exist.
    WeightsError, CheckpointError
        If the foundation's weights are absent or unfit.
    """
    like = options.like
    if like is None or not like.like:
        raise ConfigError("nothing says what to look for: name an example, such as --like example.gpkg")
    for path in (*like.like, *like.unlike):
        if not path.is_file():
            raise MissingInputError(f"{path}: no such file; check the path")
    foundation, precision = load_decoder(options.foundation, options.run.device, options.run.precision)
    return AlikeObjects(MarkFiles(), foundation, foundation.device, precision, like=like)
