"""Models of pictures and words that others are taught by: any CLIP of open_clip, any of transformers, by
path.

``ARCHITECTURE:FILE`` is an open_clip architecture with its weight file (``ViT-L-14:datacomp.bin``); a
folder with ``open_clip_config.json`` is open_clip's own layout; a folder with ``config.json`` is Hugging
Face's.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor
from torch.nn import functional as F

from domainsam.errors import CheckpointError, ConfigError, DependencyError, InputError, WeightsError
from domainsam.foundation.loading import read_tensors
from domainsam.foundations import Normalisation
from domainsam.tensorfile import load_strict

CLIP_PIXELS = Normalisation((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
"""Mean and spread of OpenAI's CLIP, which most that came after it share."""
AT_ONCE = 256
WEIGHTS = (
    "model.safetensors",
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.bin",
    "pytorch_model.bin",
)
FORMS = "ARCHITECTURE:FILE of open_clip (ViT-L-14:x.bin), or a folder of open_clip's or transformers' layout"


class ImageTextTeacher:
    """Vectors of pictures and of texts in one space, from a frozen model.

    Parameters
    ----------
    name
        As it was asked for.
    side
        Pixels of the square pictures that it sees.
    pixels
        Their statistics.
    image, text
        The towers: normalised pictures ``(B, 3, side, side)``, and texts, to vectors.
    device
        Where it computes.
    """

    def __init__(
        self,
        name: str,
        side: int,
        pixels: Normalisation,
        image: Callable[[Tensor], Tensor],
        text: Callable[[Sequence[str]], Tensor],
        device: torch.device,
    ) -> None:
        self.name, self.side, self.device = name, side, device
        self._mean = torch.tensor(pixels.mean, device=device).view(3, 1, 1)
        self._std = torch.tensor(pixels.std, device=device).view(3, 1, 1)
        self._image, self._text = image, text

    @property
    def vector(self) -> int:
        """Components of its vectors."""
        return int(self.encode_texts(["a"]).shape[1])

    @torch.no_grad()
    def encode_images(self, images: Tensor) -> Tensor:
        """Vectors ``(B, D)`` of length one of pictures ``(B, 3, S, S)`` in 0 to 1, scaled to its own side."""
        if images.shape[-2:] != (self.side, self.side):
            images = F.interpolate(
                images, (self.side, self.side), mode="bicubic", antialias=True, align_corners=False
            ).clamp(0, 1)
        return F.normalize(self._image((images - self._mean) / self._std).float(), dim=-1)

    @torch.no_grad()
    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Vectors ``(N, D)`` of length one of texts, at least one."""
        parts = [
            self._text(texts[start : start + AT_ONCE]).float() for start in range(0, len(texts), AT_ONCE)
        ]
        return F.normalize(torch.cat(parts), dim=-1)


def load_teacher(name: str, device: torch.device | str = "cpu") -> ImageTextTeacher:
    """A teacher by ``ARCHITECTURE:FILE`` or by folder, frozen, in float32.

    Raises
    ------
    ConfigError
        If it is neither.
    WeightsError
        If there is no such file.
    CheckpointError
        If what lies there is damaged or another network's.
    DependencyError
        If the library it needs is not installed.
    """
    device = torch.device(device)
    path = Path(name).expanduser()
    if (path / "open_clip_config.json").is_file():
        config = _read_json(path / "open_clip_config.json")
        return _load_open_clip(name, config.get("model_cfg", config), _find_weights(path), device)
    if (path / "config.json").is_file():
        return _load_transformers(name, path, device)
    architecture, colon, file = name.partition(":")
    if path.exists() or not colon or not file:
        raise ConfigError(f"{name!r} is no model of pictures and words: give {FORMS}")
    return _load_open_clip(name, architecture, Path(file).expanduser(), device)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise CheckpointError(f"{path} cannot be read as JSON; fetch the folder again") from error
    if not isinstance(found, dict):
        raise CheckpointError(f"{path} holds no settings; fetch the folder again")
    return found


def _find_weights(folder: Path) -> Path:
    found = next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)
    if found is None:
        raise WeightsError(f"{folder} holds no weights: expected one of {', '.join(WEIGHTS)}")
    return found


def _load_open_clip(
    name: str, model: str | dict[str, Any], file: Path, device: torch.device
) -> ImageTextTeacher:
    try:
        import open_clip
    except ImportError as error:
        raise DependencyError("open_clip is not installed: pip install 'domainsam[words]'") from error
    config = open_clip.get_model_config(model) if isinstance(model, str) else model
    if config is None:
        raise ConfigError(f"open_clip has no architecture {model!r}; it lists: open_clip.list_models()")
    if not file.is_file():
        raise WeightsError(f"no weight file {file}; check the path after the colon of {name!r}")
    if "hf_model_name" in config["text_cfg"]:
        raise ConfigError(
            f"{name}: its text tower is one of transformers: give a folder of transformers' layout"
        )
    settings = {
        key: config[key] for key in ("embed_dim", "vision_cfg", "text_cfg", "quick_gelu") if key in config
    }
    network = open_clip.CLIP(**settings)
    network = load_strict(network, read_tensors(file), str(file)).eval().requires_grad_(False).to(device)
    tokens = open_clip.SimpleTokenizer(context_length=config["text_cfg"].get("context_length", 77))
    side = config["vision_cfg"]["image_size"]
    return ImageTextTeacher(
        name,
        int(side if isinstance(side, int) else side[0]),
        CLIP_PIXELS,
        network.encode_image,
        lambda texts: network.encode_text(tokens(list(texts)).to(device)),
        device,
    )


def _load_transformers(name: str, folder: Path, device: torch.device) -> ImageTextTeacher:
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    try:
        config: Any = AutoConfig.from_pretrained(folder, local_files_only=True)
        network: Any = AutoModel.from_pretrained(folder, local_files_only=True, dtype=torch.float32)
        tokens: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError) as error:
        raise CheckpointError(f"{folder} cannot be loaded: {str(error).splitlines()[0]}") from error
    if not hasattr(network, "get_image_features") or not hasattr(network, "get_text_features"):
        raise ConfigError(
            f"{folder} is a {type(network).__name__}, which has no towers of pictures and words"
        )
    network = network.eval().requires_grad_(False).to(device)
    longest = int(getattr(config.text_config, "max_position_embeddings", 77))
    told = folder / "preprocessor_config.json"
    own = _read_json(told) if told.is_file() else {}
    pixels = Normalisation(
        _triple(own.get("image_mean", CLIP_PIXELS.mean), told),
        _triple(own.get("image_std", CLIP_PIXELS.std), told),
    )

    def read(texts: Sequence[str]) -> Tensor:
        # SigLIP was trained on texts padded to its full length, CLIP does not mind.
        padding = "max_length" if "siglip" in str(config.model_type) else True
        given = tokens(list(texts), padding=padding, truncation=True, max_length=longest, return_tensors="pt")
        wanted = {
            key: value.to(device) for key, value in given.items() if key in ("input_ids", "attention_mask")
        }
        return _vectors(network.get_text_features(**wanted))

    def see(images: Tensor) -> Tensor:
        return _vectors(network.get_image_features(pixel_values=images))

    return ImageTextTeacher(name, int(config.vision_config.image_size), pixels, see, read, device)


def _triple(values: Any, path: Path) -> tuple[float, float, float]:
    """Three numbers of a file of settings."""
    try:
        red, green, blue = map(float, values)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: has no three numbers as mean and spread; fetch it again") from error
    return red, green, blue


def _vectors(answer: Any) -> Tensor:
    """The vectors of a tower's answer, which newer versions wrap."""
    found = answer if isinstance(answer, Tensor) else getattr(answer, "pooler_output", None)
    if not isinstance(found, Tensor) or found.ndim != 2:
        raise InputError(f"a tower gave {type(answer).__name__}; expected a vector a picture or text")
    return found
