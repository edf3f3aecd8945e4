"""Facts of published efficient generalists: official file, licence, and the tensors that tell it from others.

Plain data without an import; :mod:`domainsam.foundations` makes rows of it.
Parameters are those of the image encoder in millions; GMACs are its
multiplications and additions for one image, in 10^9 pairs. Both are counted:
those of SAM and SAM 2 in their official code, those of :data:`GENERALISTS` in
ours, where ``tests/core/foundation/test_efficient.py`` holds them to what is
published (of ``lightening`` nothing is).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

EFFICIENTSAM = "https://github.com/yformer/EfficientSAM/raw/main/weights"
EFFICIENTVIT = "https://huggingface.co/mit-han-lab/efficientvit-sam/resolve/main"
EDGE_SAM = "https://huggingface.co/spaces/chongzhou/EdgeSAM/resolve/main/weights"
PADDED = "longest side to 1024, padded"
S_LAB = "S-Lab License 1.0, non-commercial use only"

VIT = "image_encoder.pos_embed"
POINTS_ONLY = "prompt_encoder.invalid_points.weight"
MOBILE = "image_encoder.patch_embed.seq.0.c.weight"
FUSED = "image_encoder.fuse_stage2.weight"
REPVIT = "image_encoder.features.54.channel_mixer.m.2.c.weight"
NECK = "image_encoder.neck.middle.op_list.{}.main.point_conv.conv.weight"
"""A block of EfficientViT-SAM's neck; their number tells the sizes apart, with the number of stages."""
LAST_STAGE = "image_encoder.backbone.stages.5.op_list.0.main.inverted_conv.conv.weight"

COSTS: dict[str, tuple[float, float]] = {
    "embedded": (5.53, 5.06),
    "embedded_lite": (3.73, 2.65),
    "embedded_sam2": (2.73, 0.77),
    "sam_vit_b": (89.67, 486.0),
    "sam_vit_l": (308.28, 1493.0),
    "sam_vit_h": (637.03, 2981.0),
    "tiny": (27.22, 146.2),
    "small": (34.32, 180.0),
    "base_plus": (69.11, 323.4),
    "large": (212.70, 911.4),
}
"""Parameters and GMACs, as below, of SAM, of SAM 2 by its size (trunk and levels), and of ours."""

TIMES_VIT_H: dict[str, tuple[float, str]] = {
    "efficientvit_sam_l0": (69.0, "A100, TensorRT"),
    "efficientvit_sam_l1": (58.0, "A100, TensorRT"),
    "efficientvit_sam_l2": (49.0, "A100, TensorRT"),
    "efficientvit_sam_xl0": (25.0, "A100, TensorRT"),
    "efficientvit_sam_xl1": (17.0, "A100, TensorRT"),
    "lightening": (30.1, "GPU not stated, 3.5 % of the memory"),
    "edge_sam": (40.0, "RTX 2080 Ti"),
    "edge_sam_3x": (40.0, "RTX 2080 Ti"),
    "efficientsam_ti": (20.0, "A100"),
}
"""How many times as fast as SAM ViT-H the authors found an encoder, and on what.

EfficientViT-SAM: images a second of its repository's table by those of SAM ViT-H there, 11. The others as
printed: Song et al. 2024, abstract; Zhou et al. 2023, abstract; Xiong et al. 2023, section 1.
"""

Axes = dict[str, tuple[int, int] | None]


@dataclass(frozen=True)
class Generalist:
    """One efficient generalist; see :class:`domainsam.foundations.FoundationSpec` for what is not said here.

    ``also`` are other names that its official file goes by; ``statistics``
    says whose mean and standard deviation its images are normalised by.
    """

    name: str
    file: str
    url: str
    megabytes: int
    sha256: str | None
    licence: str
    parameters: float
    gmacs: float
    has: Axes = field(default_factory=dict)
    lacks: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    statistics: Literal["sam", "imagenet"] = "sam"
    input: str = PADDED
    fit: Literal["longest", "stretch"] = "longest"
    prompts: tuple[str, ...] = ("points", "points outside", "boxes", "masks")
    loader: str = "domainsam.foundation.efficient:load"


def _efficientsam(
    letter: str, file: str, megabytes: int, width: int, size: float, gmacs: float
) -> Generalist:
    return Generalist(
        f"efficientsam_{letter}",
        file,
        f"{EFFICIENTSAM}/{file}",
        megabytes,
        None,
        "Apache-2.0",
        size,
        gmacs,
        {VIT: (-1, width), POINTS_ONLY: None},
        also=(file.removesuffix(".zip"),) if file.endswith(".zip") else (),
        statistics="imagenet",
        input="both sides to 1024",
        fit="stretch",
        prompts=("points", "boxes"),
        loader="domainsam.foundation.efficientsam:load",
    )


def _efficientvit(
    size: str, blocks: int, megabytes: int, sha256: str, parameters: float, gmacs: float
) -> Generalist:
    name = f"efficientvit_sam_{size}"
    has: Axes = {NECK.format(blocks - 1): None}
    lacks = [NECK.format(blocks)]
    if size.startswith("xl"):
        has[LAST_STAGE] = None
    else:
        lacks.append(LAST_STAGE)
    rule = PADDED + ("" if size.startswith("xl") else "; the encoder sees half of it")
    url = f"{EFFICIENTVIT}/{name}.pt"
    return Generalist(
        name,
        f"{name}.pt",
        url,
        megabytes,
        sha256,
        "Apache-2.0",
        parameters,
        gmacs,
        has,
        tuple(lacks),
        also=(f"{size}.pt",),
        input=rule,
    )


def _edge_sam(name: str, sha256: str | None, has: Axes) -> Generalist:
    url = f"{EDGE_SAM}/{name}.pth"
    return Generalist(name, f"{name}.pth", url, 39, sha256, S_LAB, 5.52, 20.0, has)


# Checksums: mobile_sam.pt and efficientvit_sam_l0.pt agree in several independent public projects; those of
# the other EfficientViT-SAM files and of edge_sam_3x.pth stand in one each, beside others that agree.
# For the rest none was found: the file's own is told when it is first used, and kept.
GENERALISTS: tuple[Generalist, ...] = (
    _efficientsam("ti", "efficient_sam_vitt.pt", 41, 192, 6.16, 102.0),
    _efficientsam("s", "efficient_sam_vits.pt.zip", 98, 384, 22.35, 246.0),
    _efficientvit(
        "l0", 4, 139, "c4f994b01a16d48bcf2fbbb089448cfbf58fae5811edfa8113c953b8b8cc64b8", 30.73, 34.8
    ),
    _efficientvit(
        "l1", 8, 191, "fa151df2b9b96896accd505470755cdd293a4c50cdabac95478f3fbd86d9152b", 43.59, 49.0
    ),
    _efficientvit(
        "l2", 12, 245, "d4bfd842224cbb99de09acc3325e81ac5b7e8725c8fbdab152305e5d934bfe4a", 57.26, 68.6
    ),
    _efficientvit(
        "xl0", 6, 468, "9bc2f87bd23d6e6d1f7b5beff910f98835c7c333fac73e695bac0bec685968f8", 112.89, 185.0
    ),
    _efficientvit(
        "xl1", 12, 814, "10f42277679427c1183dcff19758e536aa86bcc4304e4b387ff48865784be05c", 199.28, 322.0
    ),
    Generalist(
        "repvit_sam",
        "repvit_sam.pt",
        "https://github.com/THU-MIG/RepViT/releases/download/v1.0/repvit_sam.pt",
        109,
        None,
        "Apache-2.0",
        23.16,
        113.0,
        {REPVIT: None},
    ),
    _edge_sam("edge_sam", None, {FUSED: None}),
    # Its tensors are edge_sam's: a file given by its path is taken for edge_sam, which computes the same.
    _edge_sam("edge_sam_3x", "5a3e3261da9e2f4c8154410885689ae57d09cbf4cf5d0c848b9d80b6df336ece", {}),
    Generalist(
        "mobile_sam",
        "mobile_sam.pt",
        "https://github.com/ChaoningZhang/MobileSAM/raw/master/weights/mobile_sam.pt",
        41,
        "6dbb90523a35330fedd7f1d3dfc66f995213d81b29a5ca8108dbcdd4e37d6c2f",
        "Apache-2.0",
        5.74,
        38.8,
        {MOBILE: None},
    ),
    Generalist(
        "lightening",
        "lightening.safetensors",
        "",
        0,
        None,
        "of the file; none is published",
        13.20,
        52.3,
        {VIT: (1, 64), "image_encoder.blocks.5.attn.qkv.weight": (-1, 384)},
    ),
)
"""An empty address: nothing is published, and a file of one's own of that name is looked for."""
