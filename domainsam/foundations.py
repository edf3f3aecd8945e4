"""The foundations there are, a row each: loader, official weight file, licence, and how to tell its tensors.

Reading this table imports no foundation and no torch. A new foundation is one
row here and a module with its loader; a package of its own adds rows by the
entry-point group ``domainsam.foundations``, where an entry point names a
:class:`FoundationSpec` or a list of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from domainsam.generalists import COSTS, GENERALISTS, PADDED, Generalist
from domainsam.licences import RESEARCH_LICENCE
from domainsam.plugins import find_rows

GROUP = "domainsam.foundations"


@dataclass(frozen=True)
class Normalisation:
    """RGB mean and standard deviation on the scale 0 to 1."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


IMAGENET = Normalisation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
SAM_PIXELS = Normalisation(
    (123.675 / 255, 116.28 / 255, 103.53 / 255), (58.395 / 255, 57.12 / 255, 57.375 / 255)
)
"""``pixel_mean`` and ``pixel_std`` of ``segment_anything.build_sam``, there on the scale 0 to 255."""


@dataclass(frozen=True)
class WeightFile:
    """One official weight file.

    ``megabytes`` (10^6 bytes) is for information; ``sha256`` decides, and is
    None where nobody has published one. ``also`` are other names that the
    file goes by. An empty ``url``: nothing is published, a file of one's own
    is looked for under that name.
    """

    name: str
    file: str
    url: str
    sha256: str | None
    megabytes: int
    licence: str
    normalisation: Normalisation
    image_size: int
    also: tuple[str, ...] = ()


@dataclass(frozen=True)
class Marks:
    """What tells a foundation's tensors from others'.

    Parameters
    ----------
    has
        Names of tensors that are there, with an axis and its size where the size decides.
    lacks
        Names of tensors that are not there.
    """

    has: Mapping[str, tuple[int, int] | None]
    lacks: tuple[str, ...] = ()

    def fit(self, shapes: Mapping[str, Sequence[int]]) -> bool:
        """Whether tensors of these names and shapes are the foundation's."""
        if any(name in shapes for name in self.lacks):
            return False
        return all(
            name in shapes and (wanted is None or _side(shapes[name], wanted[0]) == wanted[1])
            for name, wanted in self.has.items()
        )


def _side(shape: Sequence[int], axis: int) -> int | None:
    return shape[axis] if -len(shape) <= axis < len(shape) else None


@dataclass(frozen=True)
class FoundationSpec:
    """One row of the table.

    Parameters
    ----------
    name
        What ``--foundation`` and :func:`domainsam.foundation.load_foundation` take.
    loader
        ``"module:function"`` with the signature ``(name, path, device, dtype,
        compile) -> Foundation``; ``path`` is None unless a file was given.
    licence
        Of the weights.
    weights
        The official file, where it is fetched; None where weights ship with a package.
    marks
        How a file of its tensors is recognised; None where that is not wanted.
    fit
        How a single picture becomes its input: ``"longest"`` side scaled and
        the rest padded, as SAM does, or both sides scaled, with antialiasing
        (``"squash"``) as SAM 2 does, without (``"stretch"``) as EfficientSAM does.
    prompts
        What it understands: of ``points``, ``points outside``, ``boxes``, ``masks``.
    parameters
        Of the image encoder, in millions; None where nobody counted.
    gmacs
        Of the image encoder for one image of its own size, in 10^9; likewise.
    input
        The input rule in words.
    notice
        What is told before the weights are used, for instance that they are for research only.
    folder
        Where the weights are a folder of the user's in Hugging Face's layout: what its ``config.json`` may
        say of ``model_type``. It is named ``NAME:FOLDER``, or lies as NAME where weight files do.
    """

    name: str
    loader: str
    licence: str
    weights: WeightFile | None = None
    marks: Marks | None = None
    fit: Literal["longest", "squash", "stretch"] = "longest"
    prompts: tuple[str, ...] = Generalist.prompts
    parameters: float | None = None
    gmacs: float | None = None
    input: str = ""
    notice: str | None = None
    folder: tuple[str, ...] = ()


SAM_ADDRESS = "https://dl.fbaipublicfiles.com/segment_anything"
SAM2_ADDRESS = "https://dl.fbaipublicfiles.com/segment_anything_2"
SAM2_STEM = "image_encoder.trunk.patch_embed.proj.weight"
SAM2_DEEP = "image_encoder.trunk.blocks.15.norm1.weight"
"""Tiny and small share their width; tiny has 12 blocks, small 16."""
SAM21_ONLY = "no_obj_embed_spatial"
SAM3_LICENCE = "SAM License (Meta)"
SAM3_NOTICE = "the weights of sam3 are under the SAM License of Meta: read it before you use them"
LITE_ONLY = "encoder.trunk.conv_stem.weight"
"""What trunks of the EfficientNet kind begin with; RepViT's stem has another name."""
OWN_LICENCE = f"{RESEARCH_LICENCE} (trained in part on research-only imagery, see the model card)"
OWN_NOTICE = "the embedded foundations are for research: trained in part on research-only imagery"


MODEL_LICENCES = {
    "urban_villages": f"{RESEARCH_LICENCE} (trained on UV-SAM's sample, which states none)",
    "abdomen": f"{RESEARCH_LICENCE} (trained on BTCV's scans, research use)",
    "words": f"{RESEARCH_LICENCE} (trained in part on research-only pictures)",
    "abdomen_open": "Apache-2.0",
    "generated": "Apache-2.0",
}
"""Of the models inside the packages, by the names of their files."""


def tell_licences(*names: str | None) -> dict[str, str]:
    """Licences of weights by the names of foundations and models, as far as they are known."""
    known = {**MODEL_LICENCES, **{name: row.licence for name, row in FOUNDATIONS.items()}}
    return {name: known[name] for name in names if name in known}


def _sam(letter: str, mark: str, megabytes: int, width: int, sha256: str) -> FoundationSpec:
    name, file = f"sam_vit_{letter}", f"sam_vit_{letter}_{mark}.pth"
    weights = WeightFile(
        name, file, f"{SAM_ADDRESS}/{file}", sha256, megabytes, "Apache-2.0", SAM_PIXELS, 1024
    )
    marks = Marks({"image_encoder.pos_embed": (-1, width)})
    return FoundationSpec(
        name,
        "domainsam.foundation.sam:load",
        weights.licence,
        weights,
        marks,
        parameters=COSTS[name][0],
        gmacs=COSTS[name][1],
        input=PADDED,
    )


def _sam2(version: str, size: str, megabytes: int, width: int, sha256: str) -> FoundationSpec:
    name = f"{version}_hiera_{size}"
    folder = {"sam2": "072824", "sam2.1": "092824"}[version]
    url = f"{SAM2_ADDRESS}/{folder}/{name}.pt"
    weights = WeightFile(name, f"{name}.pt", url, sha256, megabytes, "Apache-2.0", IMAGENET, 1024)
    has: dict[str, tuple[int, int] | None] = {SAM2_STEM: (0, width)}
    lacks = [SAM2_DEEP] if size == "tiny" else []
    if size == "small":
        has[SAM2_DEEP] = None
    if version == "sam2.1":
        has[SAM21_ONLY] = None
    else:
        lacks.append(SAM21_ONLY)
    marks = Marks(has, tuple(lacks))
    return FoundationSpec(
        name,
        "domainsam.foundation.sam2:load",
        weights.licence,
        weights,
        marks,
        "squash",
        parameters=COSTS[size][0],
        gmacs=COSTS[size][1],
        input="both sides to 1024",
    )


def _efficient(row: Generalist) -> FoundationSpec:
    pixels = {"sam": SAM_PIXELS, "imagenet": IMAGENET}[row.statistics]
    weights = WeightFile(
        row.name, row.file, row.url, row.sha256, row.megabytes, row.licence, pixels, 1024, row.also
    )
    return FoundationSpec(
        row.name,
        row.loader,
        row.licence,
        weights,
        Marks(row.has, row.lacks) if row.has else None,
        row.fit,
        row.prompts,
        row.parameters,
        row.gmacs,
        row.input,
        f"the weights of {row.name} are under the {row.licence}" if "non-commercial" in row.licence else None,
    )


# The checksums agree in several independent public projects that pin these files. The mark in
# SAM's file names is the start of the file's MD5, not of its SHA-256.
FOUNDATIONS: dict[str, FoundationSpec] = {
    row.name: row
    for row in (
        FoundationSpec(
            "embedded",
            "domainsam.foundation.embedded:load",
            OWN_LICENCE,
            notice=OWN_NOTICE,
            marks=Marks({"dense_prompts.at4.weight": None}, (LITE_ONLY,)),
            parameters=COSTS["embedded"][0],
            gmacs=COSTS["embedded"][1],
            input="longest side to 512, padded",
        ),
        FoundationSpec(
            "embedded_lite",
            "domainsam.foundation.embedded:load",
            OWN_LICENCE,
            notice=OWN_NOTICE,
            marks=Marks({"dense_prompts.at4.weight": None, LITE_ONLY: None}),
            parameters=COSTS["embedded_lite"][0],
            gmacs=COSTS["embedded_lite"][1],
            input="longest side to 512, padded",
        ),
        FoundationSpec(
            "embedded_sam2",
            "domainsam.foundation.embedded_sam2:load",
            OWN_LICENCE,
            notice=OWN_NOTICE,
            marks=Marks({SAM2_STEM: (0, 32)}),
            fit="squash",
            parameters=COSTS["embedded_sam2"][0],
            gmacs=COSTS["embedded_sam2"][1],
            input="both sides to 256",
        ),
        _sam("b", "01ec64", 375, 768, "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912"),
        _sam("l", "0b3195", 1250, 1024, "3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622"),
        _sam("h", "4b8939", 2565, 1280, "a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e"),
        _sam2("sam2.1", "tiny", 156, 96, "7402e0d864fa82708a20fbd15bc84245c2f26dff0eb43a4b5b93452deb34be69"),
        _sam2("sam2.1", "small", 184, 96, "6d1aa6f30de5c92224f8172114de081d104bbd23dd9dc5c58996f0cad5dc4d38"),
        _sam2(
            "sam2.1",
            "base_plus",
            324,
            112,
            "a2345aede8715ab1d5d31b4a509fb160c5a4af1970f199d9054ccfb746c004c5",
        ),
        _sam2(
            "sam2.1", "large", 898, 144, "2647878d5dfa5098f2f8649825738a9345572bae2d4350a2468587ece47dd318"
        ),
        _sam2("sam2", "tiny", 156, 96, "65b50056e05bcb13694174f51bb6da89c894b57b75ccdf0ba6352c597c5d1125"),
        _sam2("sam2", "small", 184, 96, "95949964d4e548409021d47b22712d5f1abf2564cc0c3c765ba599a24ac7dce3"),
        _sam2(
            "sam2", "base_plus", 324, 112, "d0bb7f236400a49669ffdd1be617959a8b1d1065081789d7bbff88eded3a8071"
        ),
        _sam2("sam2", "large", 898, 144, "7442e4e9b732a508f80e141e7c2913437a3610ee0c77381a66658c3a445df87b"),
        *map(_efficient, GENERALISTS),
        FoundationSpec(
            "sam3",
            "domainsam.foundation.sam3:load",
            SAM3_LICENCE,
            fit="squash",
            input="both sides to 1152, of which SAM 3 makes its 1008",
            notice=SAM3_NOTICE,
            folder=("sam3_video", "sam3_tracker", "sam3_tracker_video"),
        ),
        FoundationSpec("fake", "domainsam.foundation.fake:load", "Apache-2.0"),
    )
}
"""The rows of this package; ``fake`` is for tests of what is built on top."""


def find_foundations() -> dict[str, FoundationSpec]:
    """All rows by name: ours, then those of installed packages. What is broken is logged in a line each."""
    return find_rows(FOUNDATIONS, FoundationSpec, GROUP, "foundation")


def name_folder(kind: Any) -> str | None:
    """Name of the foundation whose folders say of themselves that they are of a ``model_type``."""
    return next((row.name for row in find_foundations().values() if kind in row.folder), None)


def identify(shapes: Mapping[str, Sequence[int]]) -> str | None:
    """Name of the foundation that has tensors of these names and shapes; None if there is none."""
    return next(
        (row.name for row in find_foundations().values() if row.marks is not None and row.marks.fit(shapes)),
        None,
    )
