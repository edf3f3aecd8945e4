"""Ladder: a CNN beside the frozen encoder whose features are blended with it by learned gates.

SAM-LST (Chai et al. 2023, arXiv:2306.12737) blends once, at stride 16:
``sigmoid(a) * encoder + (1 - sigmoid(a)) * CNN`` with one scalar ``a`` that
starts at 0. Here the same blend may also happen at strides 8 and 4, on the
finer levels of foundations that have them; where a foundation has none, its
side of the blend is nothing and the CNN's alone enters the upscaling path.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from domainsam.errors import ConfigError, WeightsError
from domainsam.protocols import Features

LEVEL_WIDTHS = {4: 32, 8: 64, 16: 256}
"""Channels of a foundation's features by stride, the same for SAM 2 and the embedded one."""


@dataclass(frozen=True)
class LadderConfig:
    """What runs beside the encoder, and where the two meet.

    Parameters
    ----------
    specialist
        ``resnet18`` (any ResNet of ``timm``) as published, or ``mit_b0`` to
        ``mit_b5``, the SegFormer encoder that other packs find prompts with.
    depths
        Strides at which features are blended, of 4, 8 and 16; ``(16,)`` as published.
    """

    specialist: str = "resnet18"
    depths: tuple[int, ...] = (16,)

    def __post_init__(self) -> None:
        if 16 not in self.depths or not set(self.depths) <= set(LEVEL_WIDTHS):
            raise ConfigError(f"depths is {list(self.depths)}, expected 16 and any of 4 and 8")
        if len(set(self.depths)) != len(self.depths):
            raise ConfigError(f"depths is {list(self.depths)}, which names one stride twice")


class ResNetSpecialist(nn.Module):
    """A ResNet up to stride 16, ``(B, 3, H, W)`` to maps at strides 4, 8 and 16.

    The last stage and the classifier are not built; images are taken as they are, as published.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        import timm

        try:
            self.model: Any = timm.create_model(
                name,
                features_only=True,
                out_indices=(1, 2, 3),
                pretrained=False,
                # As torchvision begins, and with it the published code.
                zero_init_last=False,
            )
        except (RuntimeError, AssertionError, TypeError) as error:
            raise ConfigError(
                f"specialist is {name!r}, expected resnet18, another ResNet of timm, or mit_b0 to mit_b5"
            ) from error
        self.widths = dict(zip((4, 8, 16), self.model.feature_info.channels(), strict=True))
        if self.model.feature_info.reduction() != [4, 8, 16]:
            raise ConfigError(f"specialist {name!r} has no levels at strides 4, 8 and 16: use resnet18")

    def forward(self, images: Tensor) -> dict[int, Tensor]:
        return dict(zip((4, 8, 16), self.model(images), strict=True))


class MitSpecialist(nn.Module):
    """A SegFormer encoder's levels at strides 4, 8 and 16."""

    def __init__(self, name: str) -> None:
        super().__init__()
        from domainsam.prompter.segformer_parts import build_mit

        self.encoder = build_mit(name)
        # Nothing reads stride 32.
        del self.encoder.model.stages[3]
        self.widths = dict(zip((4, 8, 16), self.encoder.widths[:3], strict=True))

    def forward(self, images: Tensor) -> dict[int, Tensor]:
        return dict(zip((4, 8, 16), self.encoder(images), strict=True))


class Ladder(nn.Module):
    """The specialist and its gates; a :class:`domainsam.protocols.SideNetwork`.

    ``gates`` holds one value ``a`` a depth, in the order of the configuration.
    """

    def __init__(self, config: LadderConfig) -> None:
        super().__init__()
        self.config = config
        make: Any = MitSpecialist if config.specialist.startswith("mit_") else ResNetSpecialist
        self.specialist = make(config.specialist)
        self.project = nn.ModuleDict()
        for depth in config.depths:
            have, want = self.specialist.widths[depth], LEVEL_WIDTHS[depth]
            # ResNet18's third stage is as wide as the encoder's output: the published blend needs no layer.
            self.project[str(depth)] = nn.Identity() if have == want else nn.Conv2d(have, want, 1)
        self.gates = nn.Parameter(torch.zeros(len(config.depths)))

    def shares(self) -> dict[int, float]:
        """How much of each depth's blend is the foundation's, 0 to 1."""
        weights = torch.sigmoid(self.gates.detach().float()).tolist()
        return dict(zip(self.config.depths, weights, strict=True))

    def refine(self, images: Tensor, features: Features) -> Features:
        """Blended features; levels appear at depths 4 and 8 where the foundation has none.

        Parameters
        ----------
        images
            ``(B, 3, H, W)`` float in 0 to 1, what the specialist looks at.
        features
            Of the frozen encoder, for images of the same size.
        """
        own = self.specialist(images)
        shares = torch.sigmoid(self.gates)
        maps = dict(zip((4, 8), features.levels, strict=True)) if features.levels else {}
        maps[16] = features.image
        for share, depth in zip(shares, self.config.depths, strict=True):
            side = (1 - share) * self.project[str(depth)](own[depth])
            maps[depth] = side if depth not in maps else share * maps[depth] + side
        levels = tuple(maps.get(depth, features.image.new_zeros(1, 1, 1, 1)) for depth in (4, 8))
        return Features(maps[16], levels if len(maps) > 1 else (), features.size)

    def forward(self, images: Tensor, features: Features) -> Features:
        return self.refine(images, features)


def load_specialist(ladder: Ladder, path: str) -> None:
    """Fill a ResNet specialist with published weights (a state dict of ``timm`` or torchvision), in place.

    Raises
    ------
    WeightsError
        If the file lacks a tensor that the specialist has, or has it in another shape.
    """
    from domainsam.foundation.loading import read_tensors

    tensors = read_tensors(path)
    wanted = ladder.specialist.model.state_dict()
    absent = [
        name for name, value in wanted.items() if name not in tensors or tensors[name].shape != value.shape
    ]
    absent = [name for name in absent if not name.endswith("num_batches_tracked")]
    if absent:
        raise WeightsError(
            f"{path} does not hold a {ladder.config.specialist}: {', '.join(absent[:3])} "
            "absent or of another shape"
        )
    known = {name: tensors[name] for name in wanted if name in tensors}
    ladder.specialist.model.load_state_dict(known, strict=False)
