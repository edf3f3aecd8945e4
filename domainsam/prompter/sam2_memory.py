"""Objects through pictures by SAM 2's own memory, on the official video predictor (Ravi et al. 2024)."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from domainsam.errors import ConfigError
from domainsam.foundation import embedded_sam2
from domainsam.foundation.sam2 import Sam2Foundation
from domainsam.foundations import IMAGENET
from domainsam.prompter.track import Course, FrameAnswer, check_place
from domainsam.protocols import Foundation, SceneObject, View, Window

REMEMBERED = 32
"""Pictures whose memories are held: SAM 2 looks back at 7 of them and at 16 object pointers."""


class LazyPictures:
    """Pictures of a view as the predictor asks for them: ``(3, S, S)``, normalised, one at a time."""

    def __init__(self, view: View, side: int) -> None:
        self._view, self._side = view, side
        self._mean, self._std = (torch.tensor(part).view(3, 1, 1) for part in (IMAGENET.mean, IMAGENET.std))

    def __len__(self) -> int:
        return self._view.frames

    def __getitem__(self, frame: int) -> Tensor:
        rows, cols = self._view.shape
        picture = torch.from_numpy(self._view.image(Window(0, 0, rows, cols, frame)))
        size = (self._side, self._side)
        squashed = F.interpolate(picture[None], size, mode="bilinear", align_corners=False, antialias=True)
        return (squashed[0] - self._mean) / self._std


def follow_by_memory(
    view: View,
    objects: Sequence[SceneObject],
    foundation: Foundation,
    course: Course | None = None,
) -> Iterator[FrameAnswer]:
    """Follow objects as :func:`domainsam.prompter.track.follow` does, by SAM 2's memory; no point is told.

    Its holes are not filled, which the official builder leaves to an extension for CUDA. ``course`` as there.

    Raises
    ------
    ConfigError
        If the foundation is none of SAM 2's, or its memory is untrained.
    InputError
        If an object lies outside the pictures.
    """
    if not isinstance(foundation, Sam2Foundation) or foundation.name == embedded_sam2.NAME:
        raise ConfigError(
            f"the tracker sam2 needs the memory of an official SAM 2, which {foundation.name} has not: "
            "give --foundation sam2.1_hiera_tiny or a file of SAM 2"
        )
    for number, one in enumerate(objects, 1):
        check_place(number, one, view)
    with torch.inference_mode():
        predictor = make_video_predictor(foundation.model)
        state = begin_state(predictor, view)
        for number, one in enumerate(objects, 1):
            _mark(predictor, state, number, one, view.shape)
        starts = [one.bounds.frame for one in objects]
        stand = course or Course()
        yield from _go(predictor, state, range(min(starts), view.frames), starts, stand)
        if max(starts) > 0:
            yield from _go(predictor, state, range(max(starts), -1, -1), starts, stand)


def _go(
    predictor: Any, state: dict[str, Any], frames: range, starts: Sequence[int], stand: Course
) -> Iterator[FrameAnswer]:
    """One direction; backwards without the pictures where objects were marked."""
    forwards = frames.step > 0
    left, first, passed = stand.left(frames, forwards), frames[0], None
    if not len(left):
        return
    if stand.frame is not None:
        restore_memories(state, stand.held)
    if len(left) < len(frames):
        # The official loop goes back from picture 0 to nowhere, so it begins with what was answered already.
        first = passed = left[0] - frames.step
    for frame, logits in _propagate(predictor, state, first, not forwards):
        shown = [start <= frame if forwards else start > frame for start in starts]
        if frame != passed and any(shown):
            stand.answered(frame, forwards, name_memories(state))
            yield _merge(frame, logits, shown)


def name_memories(state: dict[str, Any]) -> dict[int, Any]:
    """By object, what is remembered of pictures where it was not marked, and which were looked at."""
    return {
        number: {"seen": outputs["non_cond_frame_outputs"], "told": state["frames_tracked_per_obj"][number]}
        for number, outputs in state["output_dict_per_obj"].items()
    }


def restore_memories(state: dict[str, Any], held: dict[int, Any]) -> None:
    """Put what :func:`name_memories` named into the state of a run in which the same is marked."""
    for number, memories in held.items():
        state["output_dict_per_obj"][number]["non_cond_frame_outputs"] = memories["seen"]
        state["frames_tracked_per_obj"][number] = memories["told"]


def make_video_predictor(model: Any) -> Any:
    """The official ``SAM2VideoPredictor`` on the tensors of an official ``SAM2Base``, which stays as it is.

    With what ``build_sam2_video_predictor`` sets beside the configuration file.
    """
    from sam2 import sam2_video_predictor as official

    # The official loop draws a bar of its own; ours tells of progress.
    official.tqdm = partial(official.tqdm, disable=True)
    predictor = copy.copy(model)
    predictor.__class__ = _widen(official.SAM2VideoPredictor)
    predictor.fill_hole_area = 0
    predictor.non_overlap_masks = False
    predictor.clear_non_cond_mem_around_input = False
    predictor.add_all_frames_to_correct_as_cond = False
    predictor.binarize_mask_from_pts_for_mem_enc = True
    return predictor


def _widen(official: Any) -> Any:
    """The official predictor with memories that its own layers can read where nothing casts for them.

    It stores them in bfloat16. An object that is marked later has no pointer yet, whose float32 would bring
    its memory back to float32, and the first layer refuses; the values stay those of bfloat16.
    """

    class Wide(official):  # type: ignore[misc]
        def _run_single_frame_inference(self, *given: Any, **named: Any) -> Any:
            found, masks = super()._run_single_frame_inference(*given, **named)
            if found["maskmem_features"] is not None:
                found["maskmem_features"] = found["maskmem_features"].float()
            return found, masks

        def _run_memory_encoder(self, *given: Any, **named: Any) -> Any:
            memory, places = super()._run_memory_encoder(*given, **named)
            return memory.float(), places

    return Wide


def begin_state(predictor: Any, view: View) -> dict[str, Any]:
    """What ``init_state`` makes, with pictures that are read when they are asked for."""
    rows, cols = view.shape
    device = predictor.device
    named = ("point_inputs_per_obj", "mask_inputs_per_obj", "cached_features", "constants", "obj_id_to_idx")
    held = ("obj_idx_to_id", "output_dict_per_obj", "temp_output_dict_per_obj", "frames_tracked_per_obj")
    state: dict[str, Any] = {name: {} for name in (*named, *held)}
    return state | {
        "images": LazyPictures(view, predictor.image_size),
        "num_frames": view.frames,
        "offload_video_to_cpu": True,
        "offload_state_to_cpu": False,
        "video_height": rows,
        "video_width": cols,
        "device": device,
        "storage_device": device,
        "obj_ids": [],
    }


def _mark(
    predictor: Any, state: dict[str, Any], number: int, one: SceneObject, shape: tuple[int, int]
) -> None:
    frame = one.bounds.frame
    if one.mask is not None:
        whole = np.zeros(shape, bool)
        whole[one.bounds.slices] = one.mask
        predictor.add_new_mask(state, frame, number, torch.from_numpy(whole))
        return
    predictor.add_new_points_or_box(
        state,
        frame,
        number,
        points=[[p.x, p.y] for p in one.points] or None,
        labels=[int(p.inside) for p in one.points] or None,
        box=None if one.box is None else list(one.box),
    )


def _propagate(
    predictor: Any, state: dict[str, Any], start: int, reverse: bool
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Pictures and logits ``(N, H, W)``; memories that are no longer looked at are let go."""
    for frame, _, logits in predictor.propagate_in_video(state, start, reverse=reverse):
        for name in ("output_dict_per_obj", "frames_tracked_per_obj"):
            for held in state[name].values():
                memories = held["non_cond_frame_outputs"] if name == "output_dict_per_obj" else held
                for old in [key for key in memories if abs(key - frame) > REMEMBERED]:
                    del memories[old]
        yield frame, logits[:, 0].float().cpu().numpy()


def _merge(frame: int, logits: NDArray[np.float32], shown: Sequence[bool]) -> FrameAnswer:
    """Each pixel goes to the object with the greatest logit above 0; scores are mean probabilities inside."""
    logits = np.where(np.asarray(shown)[:, None, None], logits, -1.0)
    best = logits.argmax(axis=0)
    labels = np.where(logits.max(axis=0) > 0, best + 1, 0).astype(np.uint8)
    scores = []
    for number, plane in enumerate(logits, 1):
        own = plane[labels == number]
        scores.append(float((1 / (1 + np.exp(-np.clip(own, 0, 30)))).mean()) if own.size else 0.0)
    return FrameAnswer(frame, labels, tuple(scores), tuple(np.zeros((0, 2)) for _ in scores))
