"""Begin a training where another ended."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from domainsam.checkpoint import load, strip_prefix
from domainsam.tensorfile import load_strict
from domainsam_ct.model.network import PREFIX, AnyNetwork
from domainsam_ct.model.shipped import PACK, find_model


def begin_from(network: AnyNetwork, given: str | Path, labels: Sequence[str]) -> bool:
    """Fill a network with another model's weights before it is trained further, in place.

    Returns whether its organs are the same; where they are not, the layers
    that tell organs apart keep the weights that they have.

    Parameters
    ----------
    given
        A model file, or the name of one inside the package.
    labels
        What the network's classes are, background first.

    Raises
    ------
    CheckpointError
        If the file is absent, damaged, of another pack or foundation, or its network is of another size.
    ConfigError
        If it is of another method.
    """
    foundation = network.foundation
    path = find_model(given, "specialist" if foundation is None else "ladder")
    checkpoint = load(path, PACK, foundation)
    theirs, own = strip_prefix(checkpoint.tensors, PREFIX), network.state_dict()
    same = checkpoint.header.labels == tuple(labels)
    if not same:
        sizes = len(checkpoint.header.labels), len(labels)
        theirs = {
            name: own[name] if name in own and _tells_classes(value, own[name], sizes) else value
            for name, value in theirs.items()
        }
    load_strict(network, theirs, str(path))
    return same


def _tells_classes(theirs: Tensor, own: Tensor, classes: tuple[int, int]) -> bool:
    """Whether a tensor has a row for each class, in both networks."""
    if not theirs.ndim or theirs.shape[1:] != own.shape[1:]:
        return False
    return (theirs.shape[0], own.shape[0]) == classes
