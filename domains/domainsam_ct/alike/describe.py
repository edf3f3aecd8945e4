"""What slices look like in every place, to the organ model's trunk or to a foundation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.nn import functional as F

from domainsam.errors import ConfigError
from domainsam.machine import Precision, require_finite
from domainsam.prompter.contrast import Contrast
from domainsam.protocols import Foundation
from domainsam_ct.model.network import SpecialistNetwork
from domainsam_ct.model.organs import OrganModel, identify_model
from domainsam_ct.model.predict import SliceGrid, apply_window, make_slice_grid, prepare_images

Float32 = NDArray[np.float32]
FOUNDATION_PIXEL_MM = 0.75
"""An abdomen of 400 mm then has the 512 pixels that the embedded foundation was trained on."""
SMOOTHED_MM = 2.0
"""Standard deviation of the Gaussian over log-odds: about two thirds of a cell of either."""


class Describer(Protocol):
    """Features of axial slices; ``context`` is how many neighbours on either side they depend on."""

    @property
    def name(self) -> str: ...

    @property
    def context(self) -> int: ...

    @property
    def identity(self) -> Mapping[str, Any]: ...

    def grid(self, size: tuple[int, int], spacing_mm: tuple[float, float]) -> SliceGrid:
        """How slices ``(H, W)`` of such pixels lie on the network's grid."""
        ...

    def describe(
        self, slices: Float32, grid: SliceGrid, before: Float32 | None, after: Float32 | None
    ) -> Tensor:
        """Features ``(S, C, h, w)`` float32 of slices ``(S, H, W)`` in Hounsfield units."""
        ...


@dataclass(frozen=True)
class OrganDescriber:
    """Features of the organ model's trunk and pyramid, as its own logits are made from.

    Raises
    ------
    ConfigError
        If the model stands beside a foundation, whose decoder has no such features.
    """

    model: OrganModel

    def __post_init__(self) -> None:
        if not isinstance(self.model.network, SpecialistNetwork):
            raise ConfigError(
                f"model {self.model.name} stands beside a foundation and has no features of its own: name "
                "one of the method specialist, or take --features foundation"
            )

    @property
    def name(self) -> str:
        """The model's name."""
        return self.model.name

    @property
    def context(self) -> int:
        """As of :class:`~domainsam_ct.model.organs.OrganModel`."""
        return self.model.context

    @property
    def identity(self) -> Mapping[str, Any]:
        """What decides the features."""
        return {"features": "model", **identify_model(self.model)}

    def grid(self, size: tuple[int, int], spacing_mm: tuple[float, float]) -> SliceGrid:
        """As the model itself lays slices on its grid."""
        return make_slice_grid(size, spacing_mm, self.model.config.pixel_mm, self.model.config.side)

    @torch.inference_mode()
    def describe(
        self, slices: Float32, grid: SliceGrid, before: Float32 | None = None, after: Float32 | None = None
    ) -> Tensor:
        """Features ``(S, width, h/2, w/2)``."""
        network = self.model.network
        assert isinstance(network, SpecialistNetwork)
        images = prepare_images(slices, grid, self.model.window, (before, after), bool(self.context))
        device, dtype = network.device, self.model.dtype
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            features = network.describe(images.to(device))
        return require_finite(features.float(), "the organ model").cpu()


@dataclass(frozen=True)
class FoundationDescriber:
    """A foundation's features, every level scaled to length 1 and brought to a quarter of the picture.

    ``window`` are the Hounsfield units that become black and white.
    """

    foundation: Foundation
    window: tuple[float, float]
    precision: Precision = "float32"
    context: int = 0

    @property
    def name(self) -> str:
        """The foundation's name."""
        return self.foundation.name

    @property
    def identity(self) -> Mapping[str, Any]:
        """What decides the features."""
        return {
            "features": "foundation",
            "foundation": self.foundation.sha256,
            "window": list(self.window),
            "precision": self.precision,
        }

    def grid(self, size: tuple[int, int], spacing_mm: tuple[float, float]) -> SliceGrid:
        """Pixels of :data:`FOUNDATION_PIXEL_MM`, fewer where that is more than it was trained on."""
        extent = max(count * step for count, step in zip(size, spacing_mm, strict=True))
        pixel = max(FOUNDATION_PIXEL_MM, extent / self.foundation.image_size)
        return make_slice_grid(size, spacing_mm, pixel, self.foundation.image_size)

    @torch.inference_mode()
    def describe(
        self, slices: Float32, grid: SliceGrid, before: Float32 | None = None, after: Float32 | None = None
    ) -> Tensor:
        """Features ``(S, C, h/4, w/4)``."""
        made = []
        dtype = getattr(torch, self.precision)
        device = self.foundation.device
        for picture in grid.resample_inward(apply_window(slices, self.window)):
            with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
                features = self.foundation.encode(picture.expand(1, 3, -1, -1).to(device))
            size = (grid.network[0] // 4, grid.network[1] // 4)
            levels = [F.normalize(level.float(), dim=1) for level in (*features.levels, features.image)]
            placed = [F.interpolate(level, size, mode="bilinear", align_corners=False) for level in levels]
            made.append(torch.cat(placed, dim=1)[0].cpu())
        return require_finite(torch.stack(made), "the foundation")


def share_cells(mask: NDArray[np.bool_], grid: SliceGrid, stride: int) -> tuple[Float32, NDArray[np.bool_]]:
    """How much of every cell ``(h, w)`` of a network's grid a slice's mask ``(H, W)`` covers.

    The second array says which cells lie on the slice by more than half.
    """
    both = torch.from_numpy(np.stack([mask, np.ones_like(mask)]).astype(np.float32))
    inside, seen = F.avg_pool2d(grid.resample_inward(both)[:, None], stride)[:, 0].numpy()
    share = np.divide(inside, seen, out=np.zeros_like(inside), where=seen > 0)
    return np.clip(share, 0, 1).astype(np.float32), np.asarray(seen > 0.5)


def score_slice(
    features: Tensor, contrast: Contrast, grid: SliceGrid, spacing_mm: tuple[float, float]
) -> Float32:
    """Log-odds ``(H, W)`` at a slice's own pixels, from features ``(C, h, w)``.

    Log-odds are linear in the features, so they can be enlarged in the features' place.
    """
    odds = torch.from_numpy(contrast.score(features.numpy()))
    full = grid.resample_outward(odds).numpy()
    sigma = [SMOOTHED_MM / step for step in spacing_mm]
    smooth: Float32 = ndimage.gaussian_filter(full, sigma, mode="nearest")
    return smooth
