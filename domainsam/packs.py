"""DomainPack, and how installed packs are found by entry point.

A pack is a package that exposes a :class:`DomainPack` under the entry-point
group ``domainsam.packs``. Nothing of a pack is imported until it is used.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import TYPE_CHECKING, Any

from domainsam.describe import describe_weights, is_weight_file
from domainsam.errors import CheckpointError, DependencyError, InputError, PackError, missing_extra
from domainsam.plugins import find_offers, import_attribute, load_offer

if TYPE_CHECKING:
    from domainsam.released import Converted, ConvertOptions

GROUP = "domainsam.packs"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DomainPack:
    """One domain: its name, its classes, and where its parts are.

    ``commands``, ``open`` and ``save`` are ``"module:attribute"`` strings
    that are imported only when needed: a ``click.Group``, and two functions that
    :func:`domainsam.open` hands over to. ``open(path, **how)`` gives a
    :class:`~domainsam.protocols.Source` of 3-channel images; it may have ``close()``, and
    of a volume ``voxels``, the grid of the file's own axes. ``save(source, answer, out,
    foundation, **options)`` writes an :class:`~domainsam.infer.engine.EngineResult` as the
    pack's command writes what it finds. ``demo``, where there is one, is a click command
    that runs the pack's main job on generated data. ``describe``, where there
    is one, is a function from a path to a dict of facts about that file: empty
    for a file that is clearly another pack's; it raises
    :class:`~domainsam.errors.InputError` for a file it cannot read. ``run`` is
    the main job as a function ``(inputs, out, **options)``, its options named as
    the command's are; :func:`domainsam.run` hands over to it. ``formats`` is a
    function without arguments that gives the endings of files by kind, under
    ``inputs`` and ``outputs``. ``convert`` turns released checkpoints of the
    system that the pack follows into model files, see :mod:`domainsam.released`. ``find``, where
    there is one, is a function ``(source, folder, foundation, **how)`` that answers what
    :meth:`~domainsam.opened.scene.Opened.find` is given by example: it gives an
    :class:`~domainsam.infer.engine.EngineResult` staged in ``folder``, and the foundation that took part,
    which ``foundation()`` loads, or None. ``ask``, where there is one, is the same for what it is given by
    words of a language. ``many`` is the main job as a :class:`~domainsam.infer.many.ManyJob`, whose inputs
    can be spread over machines.
    """

    name: str
    summary: str
    labels: tuple[str, ...]
    commands: str
    open: str
    save: str
    demo: str | None = None
    describe: str | None = None
    run: str | None = None
    formats: str | None = None
    convert: str | None = None
    find: str | None = None
    ask: str | None = None
    many: str | None = None

    def load(self, part: str) -> Any:
        """Import and return one of the parts that are named by ``"module:attribute"``.

        Raises
        ------
        PackError
            If the pack does not name that part or it cannot be imported.
        DependencyError
            If it needs a package of an extra that is not installed.
        """
        target = getattr(self, part)
        if target is None:
            raise PackError(f"pack {self.name!r} has no {part}")
        try:
            return import_attribute(target)
        except (ImportError, AttributeError) as error:
            if missing := missing_extra(error):
                raise missing from error
            raise PackError(f"pack {self.name!r}: cannot load {part} from {target!r}: {error}") from error


def find_packs() -> dict[str, EntryPoint]:
    """Installed packs by name, in alphabetical order, none of them imported.

    Raises
    ------
    PackError
        If two distributions offer different packs under one name.
    """
    return find_offers(GROUP, "pack")


def load_pack(name: str) -> DomainPack:
    """The pack of that name.

    Raises
    ------
    PackError
        If no such pack is installed, or it cannot be imported.
    """
    packs = find_packs()
    if name not in packs:
        raise PackError(f"no pack is named {name!r}; installed: {', '.join(packs) or 'none'}")
    pack = load_offer(packs[name], "pack")
    if not isinstance(pack, DomainPack):
        raise PackError(f"pack {name!r}: {packs[name].value} is a {type(pack).__name__}, not a DomainPack")
    return pack


def describe_file(file: str) -> dict[str, dict[str, object]]:
    """Facts about a file from every pack that can read it, by pack; of weights, from the core.

    Raises
    ------
    CheckpointError
        If it is a file of weights and damaged.
    InputError
        If no pack can; the reason is that of the first pack that tried.
    """
    if is_weight_file(Path(file)):
        return {"core": describe_weights(Path(file))}
    answers: dict[str, dict[str, object]] = {}
    refusals: list[InputError] = []
    for name in find_packs():
        try:
            pack = load_pack(name)
            if pack.describe is None:
                continue
            facts = pack.load("describe")(file)
            if facts:
                answers[name] = facts
        except InputError as error:
            refusals.append(error)
        except (PackError, DependencyError) as error:
            log.warning("%s", error)
    if not answers:
        raise refusals[0] if refusals else InputError(f"{file}: no installed pack reads files of this kind")
    return answers


def convert_checkpoint(file: Path, options: ConvertOptions) -> Converted:
    """Make a model file of a released checkpoint, of whichever pack's system it is.

    Raises
    ------
    WeightsError
        If the file or the foundation's weights do not exist.
    CheckpointError
        If it is damaged, of no known system, or a tensor cannot be accounted for.
    """
    from domainsam.foundation.loading import read_tensors
    from domainsam.released import Ledger

    tensors = read_tensors(file, inert=True)
    for name in find_packs():
        pack = load_pack(name)
        if pack.convert is None:
            continue
        converted: Converted | None = pack.load("convert")(Ledger(str(file), tensors), options)
        if converted is not None:
            return converted
    some = ", ".join(sorted(tensors)[:3])
    raise CheckpointError(
        f"{file} is a checkpoint of no system that is known here (its tensors begin {some}); expected one of "
        "UV-SAM, SAM-LST or MemorySAM (of MLE-SAM none was released); a SAM or SAM 2 file needs no "
        "conversion: give its path to --foundation"
    )
