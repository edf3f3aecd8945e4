"""Mix Transformer encoders of SegFormer, B0 to B5, through ``transformers``.

Sizes: Xie et al. 2021, "SegFormer", tables 6 and 7 (and the released
configurations, whose decode heads are 256 wide for B0 and B1, 768 above).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from domainsam.errors import ConfigError, MissingInputError, WeightsError


@dataclass(frozen=True)
class MitSize:
    """Depth and width of each of the four stages, and the decode head's width."""

    depths: tuple[int, int, int, int]
    widths: tuple[int, int, int, int]
    head_width: int


_WIDE = (64, 128, 320, 512)
MIT_SIZES = {
    "mit_b0": MitSize((2, 2, 2, 2), (32, 64, 160, 256), 256),
    "mit_b1": MitSize((2, 2, 2, 2), _WIDE, 256),
    "mit_b2": MitSize((3, 4, 6, 3), _WIDE, 768),
    "mit_b3": MitSize((3, 4, 18, 3), _WIDE, 768),
    "mit_b4": MitSize((3, 8, 27, 3), _WIDE, 768),
    "mit_b5": MitSize((3, 6, 40, 3), _WIDE, 768),
}


class MitEncoder(nn.Module):
    """A SegFormer encoder that returns its four levels."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Normalised images ``(B, 3, H, W)`` to levels at strides 4, 8, 16 and 32."""
        levels = []
        level = images
        for stage in self.model.stages:
            level = stage(level)
            levels.append(level)
        return tuple(levels)


def build_encoder(name: str, drop_path: float = 0.1) -> MitEncoder:
    """An encoder with random weights.

    Raises
    ------
    ConfigError
        If the name is not one of :data:`MIT_SIZES`.
    """
    from transformers import SegformerConfig, SegformerModel

    if name not in MIT_SIZES:
        raise ConfigError(f"encoder is {name!r}, expected one of {', '.join(MIT_SIZES)}")
    size = MIT_SIZES[name]
    config = SegformerConfig(
        depths=list(size.depths),
        hidden_sizes=list(size.widths),
        decoder_hidden_size=size.head_width,
        drop_path_rate=drop_path,
    )
    return MitEncoder(SegformerModel(config))


def load_pretrained(encoder: MitEncoder, source: str, allow_download: bool = False) -> None:
    """Fill an encoder with published weights, in place.

    Parameters
    ----------
    encoder
        From :func:`build_encoder`, of the same size as the weights.
    source
        A local folder in the format of ``transformers`` (``config.json`` and
        ``model.safetensors``), or a name on the Hugging Face hub such as
        ``"nvidia/mit-b0"``.
    allow_download
        Whether a hub name may be fetched; otherwise only what an earlier
        download left on this machine is used.

    Raises
    ------
    MissingInputError
        If the source looks like a path that does not exist.
    WeightsError
        If the weights cannot be had, or have another shape than the encoder.
    """
    from transformers import SegformerModel

    if source.startswith((".", "/", "~")) and not Path(source).expanduser().is_dir():
        raise MissingInputError(f"no folder {source}: give a folder with config.json and model.safetensors")
    try:
        loaded = SegformerModel.from_pretrained(
            str(Path(source).expanduser()) if Path(source).expanduser().is_dir() else source,
            local_files_only=not allow_download,
            use_safetensors=True,
        )
    except (OSError, ValueError) as error:
        raise WeightsError(
            f"encoder weights {source!r} cannot be loaded: give a local folder with config.json and "
            f"model.safetensors, or allow the download ({str(error).splitlines()[0]})"
        ) from error
    try:
        encoder.model.load_state_dict(loaded.state_dict())
    except RuntimeError as error:
        raise WeightsError(
            f"encoder weights {source!r} do not fit the configured encoder: stage widths "
            f"{tuple(loaded.config.hidden_sizes)}, expected {tuple(encoder.model.config.hidden_sizes)}"
        ) from error
