"""SAM 2's memory as a bank: frames are written, later frames read them.

Frames may be the sensors of one scene, the slices of a volume, the years of a
place or the pictures of a film. With frames written by time it does what the
official tracker does; with a fixed slot for each it does what MemorySAM does.

Source: Ravi et al. 2024 (SAM 2) and the official ``SAM2Base``.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from sam2.modeling.sam2_utils import get_1d_sine_pe
from torch import Tensor, nn
from torch.nn import functional as F

from domainsam.errors import ConfigError
from domainsam.memory import attention
from domainsam.memory.attention import Grid, Written
from domainsam.protocols import Features, Masks


class MemoryParts(nn.Module):
    """A trainable copy of the memory parts of an official ``SAM2Base``.

    Raises
    ------
    ConfigError
        If the model has none.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        missing = [name for name in ("memory_attention", "memory_encoder") if not hasattr(model, name)]
        if missing:
            raise ConfigError(
                f"a memory needs a foundation of SAM 2's kind; {type(model).__name__} has no {missing[0]}"
            )
        self.attention = copy.deepcopy(model.memory_attention)
        self.encoder = copy.deepcopy(model.memory_encoder)
        self.pointer = copy.deepcopy(model.obj_ptr_proj)
        self.pointer_time = copy.deepcopy(model.obj_ptr_tpos_proj)
        self.time = _copied(model.maskmem_tpos_enc)
        self.nothing = _copied(model.no_mem_embed)
        self.absent = _copied(model.no_obj_ptr) if hasattr(model, "no_obj_ptr") else None
        spatial = model.no_obj_embed_spatial
        self.absent_spatial = None if spatial is None else _copied(spatial)
        self.scale = float(model.sigmoid_scale_for_mem_enc)
        self.bias = float(model.sigmoid_bias_for_mem_enc)
        self.reach = int(model.max_obj_ptrs_in_encoder)
        self.timed_pointers = bool(model.add_tpos_enc_to_obj_ptrs)
        self.signed = bool(model.use_signed_tpos_enc_to_obj_ptrs)
        self.projected_time = bool(model.proj_tpos_enc_in_obj_ptrs)
        self.position = copy.deepcopy(model.image_encoder.neck.position_encoding)
        self.requires_grad_(True)

    @property
    def slots(self) -> int:
        """Number of codes of time; the last is that of frames which are no one's past."""
        return int(self.time.shape[0])


def _copied(parameter: Tensor) -> nn.Parameter:
    return nn.Parameter(parameter.detach().clone())


@dataclass(frozen=True)
class Remembered:
    """One frame in the bank.

    ``time`` is the frame's number; ``slot`` the code of time it always has, or
    None if that follows from the distance to the reader. ``pointer`` is
    ``(B, 256)``: what was found, as one token, or None.
    """

    key: object
    time: int
    slot: int | None
    written: Written
    pointer: Tensor | None


class MemoryBank:
    """Frames written so far.

    Parameters
    ----------
    parts
        What reads and writes.
    frames
        Number of frames that there will be, where it is known; it sets the
        scale of the pointers' code of time, as in the official tracker.
    store
        Type in which memories are kept; the official video predictor rounds them to bfloat16.
    """

    def __init__(
        self, parts: MemoryParts, frames: int | None = None, store: torch.dtype | None = None
    ) -> None:
        self.parts, self.frames, self.store = parts, frames, store
        self._remembered: list[Remembered] = []

    def __len__(self) -> int:
        return len(self._remembered)

    def reset(self) -> None:
        """Forget everything."""
        self._remembered.clear()

    def read(self, features: Features, time: int | None = None) -> Features:
        """The features with what is remembered worked into ``image``.

        Parameters
        ----------
        features
            Of one frame, ``image`` without any memory in it.
        time
            The frame's number; by default that of the next frame.
        """
        image = features.image
        now = len(self) if time is None else time
        seen = [
            (item.written, self._code(item, now)) for item in self._remembered if self._in_reach(item, now)
        ]
        if not seen:
            empty = image + self.parts.nothing.view(1, -1, 1, 1)
            return Features(empty, features.levels, features.size)
        grid: Grid = (image.shape[-2], image.shape[-1])
        position = to_rows(self.parts.position(image).to(image.dtype))
        read = attention.attend(
            self.parts.attention, to_rows(image), position, grid, seen, self._pointers(now)
        )
        conditioned = read.transpose(1, 2).reshape(image.shape)
        return Features(conditioned, features.levels, features.size)

    def write(
        self,
        key: object,
        features: Features,
        masks: Masks,
        pointer: Tensor | None = None,
        slot: int | None = None,
        present: Tensor | None = None,
    ) -> None:
        """Remember a frame.

        Parameters
        ----------
        key
            The frame's number, or any name; a name takes the next number.
        features
            As given to :meth:`read`, without memory.
        masks
            One map for each image, logits ``(B, 1, H/4, W/4)``: what was found.
        pointer
            ``(B, 256)`` token of what was found, already projected.
        slot
            Code of time that the frame always has, counted from 0; negative
            from the end. None: by its distance to the reader.
        present
            ``(B, 1)`` 1 or 0: whether there is anything; by default there is.
        """
        image = features.image
        whole = F.interpolate(masks.logits.float(), features.size, mode="bilinear", align_corners=False)
        drawn = torch.sigmoid(whole) * self.parts.scale + self.parts.bias
        encoded = self.parts.encoder(image, drawn, skip_mask_sigmoid=True)
        memory, position = encoded["vision_features"], encoded["vision_pos_enc"][0]
        if self.parts.absent_spatial is not None and present is not None:
            memory = memory + (1 - present)[..., None, None] * self.parts.absent_spatial[..., None, None]
        if self.store is not None:
            memory = memory.to(self.store).to(memory.dtype)
        grid: Grid = (memory.shape[-2], memory.shape[-1])
        written = attention.write(self.parts.attention, to_rows(memory), to_rows(position), grid)
        time = key if isinstance(key, int) else len(self)
        fixed = slot if slot is None or slot >= 0 else self.parts.slots + slot
        self._remembered.append(Remembered(key, time, fixed, written, pointer))

    def _in_reach(self, item: Remembered, now: int) -> bool:
        return item.slot is not None or 1 <= now - item.time < self.parts.slots

    def _code(self, item: Remembered, now: int) -> Tensor:
        slot = now - item.time - 1 if item.slot is None else item.slot
        return self.parts.time[slot, 0, 0]

    def _pointers(self, now: int) -> Written | None:
        """Pointers of all frames with a slot of their own, and of the others within reach, as tokens."""
        reach = self.parts.reach if self.frames is None else min(self.frames, self.parts.reach)
        chosen = [
            item
            for item in self._remembered
            if item.pointer is not None and (item.slot is not None or 1 <= now - item.time < reach)
        ]
        if not chosen:
            return None
        # As the official tracker has them: those with a slot first, then from the latest to the earliest.
        chosen.sort(key=lambda item: (item.slot is None, item.time if item.slot is not None else -item.time))
        pointers = torch.stack([item.pointer for item in chosen if item.pointer is not None], dim=1)
        width = int(self.parts.time.shape[-1])
        tokens = pointers.reshape(*pointers.shape[:2], -1, width)
        position = tokens.new_zeros(1, len(chosen), 1, width)
        if self.parts.timed_pointers:
            distance = [now - item.time if self.parts.signed else abs(now - item.time) for item in chosen]
            steps = torch.tensor(distance, device=tokens.device) / max(1, reach - 1)
            code = get_1d_sine_pe(steps, dim=pointers.shape[-1] if self.parts.projected_time else width)
            position = self.parts.pointer_time(code)[None, :, None]
        values = tokens.flatten(1, 2)
        codes = position.expand(len(tokens), -1, tokens.shape[2], -1).flatten(1, 2)
        return attention.write(self.parts.attention, values, codes, None)


def to_rows(image: Tensor) -> Tensor:
    """``(B, C, h, w)`` as ``(B, h * w, C)``."""
    return image.flatten(2).transpose(1, 2)
