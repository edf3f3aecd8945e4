"""A teacher and a student: found by name, and held against each other before anything is computed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from domainsam.distil.students import CompactStudent, SamStudent, Student
from domainsam.errors import CheckpointError, ConfigError
from domainsam.foundation.base import FrozenFoundation
from domainsam.foundation.decoders.compact import CompactSam
from domainsam.foundation.decoders.efficientsam import SLOTS
from domainsam.foundation.efficient import SPECS, EfficientNetwork
from domainsam.foundation.efficientsam import PointsOnly
from domainsam.foundation.loading import read_tensors
from domainsam.foundations import FoundationSpec, find_foundations
from domainsam.protocols import Features, Foundation
from domainsam.tensorfile import load_strict
from domainsam.trunks import Trunk, load_trunk

TRUNKS = {"repvit_m1": "edge_sam", "repvit_m2_3": "repvit_sam", "tiny_vit_5m_224": "mobile_sam"}
"""Trunks of ``timm`` that are published encoders with SAM's neck."""
TWINS = {"edge_sam_3x": "edge_sam"}
"""Names of one and the same network."""
PROBE = 64
"""Side of the image by which frames are compared."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pair:
    """Who learns from whom.

    Parameters
    ----------
    teacher
        Frozen.
    student
        On the teacher's device.
    teach
        In place of ``teacher.encode``: a cache of it.
    adopted
        Whether the student began with the teacher's prompt encoder and decoder.
    """

    teacher: Foundation
    student: Student
    teach: Callable[[Tensor], Features]
    adopted: bool

    @property
    def outside(self) -> bool:
        """Whether both understand points beside an object."""
        return self.student.outside and "points outside" in prompts_of(self.teacher.name)

    @property
    def most_points(self) -> int:
        """Most points that may be asked by at once; a large number where there is no limit."""
        limits = [self.student.slots, SLOTS if isinstance(self.teacher, PointsOnly) else None]
        return min((limit for limit in limits if limit is not None), default=1000)


def prompts_of(name: str) -> tuple[str, ...]:
    """What a foundation understands."""
    row = find_foundations().get(name)
    return FoundationSpec.prompts if row is None else row.prompts


def list_students() -> list[str]:
    """Names of students that need no further word."""
    return [*SPECS, *TRUNKS]


def make_student(name: str, teacher: Foundation, seed: int = 0) -> Student:
    """A student with seeded random weights, for a teacher.

    Parameters
    ----------
    name
        A foundation that has a published encoder (``edge_sam``), or a trunk of ``timm`` (``repvit_m1``,
        ``efficientnet_lite0``), which gets the decoder of the embedded kind where the teacher has one.

    Raises
    ------
    ConfigError
        If there is no such student, it is the teacher itself, or no teacher of this kind can have it.
    """
    own = getattr(teacher, "model", None)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if isinstance(own, CompactSam) and name not in SPECS:
            return _make_compact(name, teacher, own)
        wanted = TRUNKS.get(name, name)
        if wanted not in SPECS:
            raise _unknown(name, teacher)
        if TWINS.get(wanted, wanted) == TWINS.get(teacher.name, teacher.name):
            raise _same(name, teacher)
        return SamStudent(EfficientNetwork(SPECS[wanted]), SPECS[wanted])


def _make_compact(name: str, teacher: Foundation, own: CompactSam) -> Student:
    """A student that ends in the embedded foundation's decoder."""
    import timm

    if name == teacher.name or name == "embedded":
        raise _same(name, teacher)
    if name in find_foundations() or not timm.is_model(name):
        raise _unknown(name, teacher)
    width = own.decoder.transformer.layers[0].mlp.lin1.out_features
    header = {"encoder": name, "mlp_dim": int(width)}
    return CompactStudent(CompactSam(name, int(width)), header, teacher.image_size)


def _same(name: str, teacher: Foundation) -> ConfigError:
    return ConfigError(
        f"teacher {teacher.name} and student {name} are the same network: there is nothing to learn; "
        "name a smaller student"
    )


def _unknown(name: str, teacher: Foundation) -> ConfigError:
    import timm

    near = get_close_matches(name, [*list_students(), *timm.list_models()], 3)
    hint = f"did you mean {' or '.join(near)}? " if near and name not in near else ""
    return ConfigError(
        f"{name!r} cannot be the student of {teacher.name}; {hint}students: {', '.join(list_students())}; "
        "for a teacher of the embedded kind also any pyramid of timm, such as efficientnet_lite0"
    )


def start_from(student: Student, path: Path) -> bool:
    """Begin with the weights of a file, in place: a whole student's, or those of its trunk alone.

    Returns
    -------
    bool
        Whether it was a whole student's.

    Raises
    ------
    WeightsError
        If the file does not exist.
    CheckpointError
        If it is damaged, or fits neither.
    """
    tensors = read_tensors(path)
    state = student.network.state_dict()
    names = {name: name for name in state}
    if isinstance(student, SamStudent):
        names = {name: student.spec.official_name(name) for name in state}
    if set(names.values()) & tensors.keys():
        load_strict(student.network, tensors, str(path), names=names)
        return True
    trunk = getattr(student.encoder, "trunk", None)
    name = _trunk_name(student)
    if trunk is None or name is None:
        raise CheckpointError(
            f"{path} does not hold the tensors of {student.name}: give a file of that foundation to --start"
        )
    log.info("%s", load_trunk(Trunk(name, trunk, (), ()), path))
    return False


def _trunk_name(student: Student) -> str | None:
    """The name in ``timm`` of a student's trunk."""
    if isinstance(student, CompactStudent):
        return str(student.header["encoder"])
    return next(
        (trunk for trunk, name in TRUNKS.items() if name == TWINS.get(student.name, student.name)), None
    )


def check_frames(teacher: Foundation, student: Student) -> None:
    """Check that both give features of the same shapes.

    Raises
    ------
    ConfigError
        If they do not.
    """
    images = torch.zeros(1, 3, PROBE, PROBE, device=teacher.device)
    was = student.training
    student.eval()
    with torch.no_grad():
        wanted, own = teacher.encode(images), student.encode(images)
    student.train(was)
    shapes = [[tuple(part.shape[1:]) for part in (one.image, *one.levels)] for one in (wanted, own)]
    if shapes[0] != shapes[1]:
        told = ["; ".join(" x ".join(map(str, shape)) for shape in one) for one in shapes]
        raise ConfigError(
            f"student {student.name} does not fit teacher {teacher.name}: of an image of {PROBE} x {PROBE} "
            f"pixels the teacher gives features {told[0]}, the student {told[1]}; "
            "choose a pair whose decoders take the same"
        )


def adopt_decoder(teacher: Foundation, student: Student) -> bool:
    """Give the student its teacher's prompt encoder and decoder; False where they do not fit."""
    network: nn.Module | Any = teacher.model if isinstance(teacher, FrozenFoundation) else None
    return isinstance(network, nn.Module) and student.adopt(network)


def describe_teacher(teacher: Foundation) -> Mapping[str, str]:
    """What a student's file says of its teacher."""
    row = find_foundations().get(teacher.name)
    licence = "unknown" if row is None else row.licence
    return {"teacher": teacher.name, "teacher_sha256": teacher.sha256, "teacher_licence": licence}
