"""Foundations that another runtime computes, ONNX Runtime or OpenVINO, from files of ``domainsam export``.

Three graphs make one (:mod:`domainsam.foundation.graphs`); what is known of them is in each file's
metadata, so that parts of different foundations are not put together. They answer as the foundation that
they were made of does, but no gradients flow.
"""

from __future__ import annotations

import importlib
import json
import logging
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from domainsam.errors import CheckpointError, ConfigError, DependencyError, WeightsError
from domainsam.foundation.base import Named, answer_nothing, decode_by_parts
from domainsam.foundation.efficientsam import PADDING, PointsOnly, find_slots
from domainsam.foundation.graphs import BOTTOM_RIGHT, TOP_LEFT
from domainsam.keywords import RUNTIMES
from domainsam.prompts import POINT_PADDING, PromptSet
from domainsam.protocols import Features, Masks

log = logging.getLogger(__name__)

PARTS = ("encoder", "prompts", "decoder")
SUFFIXES = {"onnx": ".onnx", "openvino": ".xml"}
"""Endings of a graph's file by runtime."""
KEY = "domainsam"
"""Entry of a file's metadata with :class:`Facts` as JSON."""
FORMAT = 1
"""Raised when graphs change, so that older files are made anew or refused."""
DECODE_CHUNK = 16
"""Prompts decoded at a time, as in torch."""

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Facts:
    """What a graph's file says of itself.

    ``input`` is the input rule in words, ``mean`` and ``std`` what the graph itself takes out of RGB in 0
    to 1; ``sha256`` is the digest of the weights' tensors. ``pads`` says when a padding point joins:
    ``"points"`` where there is no box, ``"always"``, or ``"slots"`` as EfficientSAM has it.
    ``difference`` is the largest one from torch, as a share of the largest value, found when it was made.
    """

    name: str
    version: str
    sha256: str
    licence: str
    image_size: int
    input: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    prompts: tuple[str, ...]
    pads: str
    precision: str
    opset: int
    tolerance: float
    difference: float
    notice: str | None = None
    format: int = FORMAT

    def to_json(self) -> str:
        """For a file's metadata."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str | None, path: Path) -> Facts:
        """Facts of a file.

        Raises
        ------
        CheckpointError
            If there are none, or those of another version.
        """
        try:
            table = json.loads(text or "")
            facts = cls(**{field.name: table[field.name] for field in fields(cls)})
        except (ValueError, KeyError, TypeError) as error:
            raise CheckpointError(
                f"'{path}' is no graph of domainsam's: make one by 'domainsam export'"
            ) from error
        if facts.format != FORMAT:
            raise CheckpointError(
                f"'{path}' was made by domainsam {facts.version}, in another form than this one reads: "
                "export it anew"
            )
        return facts


class Graph(Protocol):
    """One graph, ready to run."""

    inputs: tuple[str, ...]
    facts: str | None

    def run(self, given: Arrays) -> list[NDArray[Any]]:
        """Outputs in their order."""
        ...


class OnnxGraph:
    """A graph in ONNX Runtime, in float32 or as it was quantised; on a GPU where its package has CUDA."""

    def __init__(self, path: Path, device: torch.device) -> None:
        import onnxruntime

        onnxruntime.disable_telemetry_events()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3
        providers = ["CPUExecutionProvider"]
        if device.type == "cuda" and "CUDAExecutionProvider" in onnxruntime.get_available_providers():
            providers.insert(0, "CUDAExecutionProvider")
        self._session = onnxruntime.InferenceSession(path, options, providers=providers)
        self.inputs = tuple(one.name for one in self._session.get_inputs())
        self.facts = self._session.get_modelmeta().custom_metadata_map.get(KEY)

    def run(self, given: Arrays) -> list[NDArray[Any]]:
        """See :class:`Graph`."""
        answers: list[NDArray[Any]] = self._session.run(None, given)
        return answers


class OpenVinoGraph:
    """A graph in OpenVINO on the CPU, in float32 or, as asked, in bfloat16 where the CPU has units for it."""

    def __init__(self, path: Path, dtype: torch.dtype) -> None:
        openvino = import_openvino()
        model = openvino.Core().read_model(path)
        self.facts = model.get_rt_info(KEY).astype(str) if model.has_rt_info(KEY) else _onnx_facts(path)
        hint = "bf16" if dtype == torch.bfloat16 else "f32"
        settings = {"INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": torch.get_num_threads()}
        self._model = openvino.compile_model(model, "CPU", settings)
        self.inputs = tuple(one.get_any_name() for one in model.inputs)

    def run(self, given: Arrays) -> list[NDArray[Any]]:
        """See :class:`Graph`."""
        # A request keeps its outputs' memory and the next call would write over it.
        return [np.array(answer) for answer in self._model(given).values()]


def _onnx_facts(path: Path) -> str | None:
    """What an ONNX file says of itself, which OpenVINO passes over."""
    if path.suffix != SUFFIXES["onnx"]:
        return None
    import onnx

    model = onnx.load(path, load_external_data=False)
    return next((entry.value for entry in model.metadata_props if entry.key == KEY), None)


def open_graph(path: Path, runtime: str, device: torch.device, dtype: torch.dtype) -> Graph:
    """A graph of a file in a runtime.

    Raises
    ------
    DependencyError
        If the runtime is not installed.
    CheckpointError
        If it cannot read the file, or lacks an operator of it.
    """
    try:
        return OnnxGraph(path, device) if runtime == "onnx" else OpenVinoGraph(path, dtype)
    except DependencyError:
        raise
    except ImportError as error:
        raise missing_runtime(runtime) from error
    except MemoryError:
        raise
    except Exception as error:
        # Either library has exceptions of its own for damage and for operators that it lacks.
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{runtime} cannot run '{path}': {reason}; export it anew") from error


def import_openvino() -> Any:
    """The package, without what reports its use.

    Importing it sends an event to its makers where ``openvino-telemetry``, which it depends on, can be
    imported; it does without where that cannot.

    Raises
    ------
    DependencyError
        If it is not installed.
    """
    telemetry = "openvino_telemetry"
    kept = sys.modules.get(telemetry)
    try:
        if "openvino" not in sys.modules:
            sys.modules[telemetry] = None  # type: ignore[assignment]
        return importlib.import_module("openvino")
    except ImportError as error:
        raise missing_runtime("openvino") from error
    finally:
        if sys.modules.get(telemetry) is None:
            sys.modules.pop(telemetry, None)
        if kept is not None:
            sys.modules[telemetry] = kept


def missing_runtime(runtime: str) -> DependencyError:
    """The error that names the extra."""
    return DependencyError(f"--runtime {runtime} is not installed: run pip install 'domainsam[{runtime}]'")


class ExportedFoundation(Named):
    """A foundation that graphs compute; a :class:`domainsam.protocols.Foundation`, without gradients.

    Parameters
    ----------
    graphs
        By the names in :data:`PARTS`.
    facts
        What they say of themselves.
    runtime
        Who computes.
    device
        Where tensors are taken and given.
    """

    def __init__(self, graphs: Mapping[str, Graph], facts: Facts, runtime: str, device: torch.device) -> None:
        self.name, self.image_size, self.sha256 = facts.name, facts.image_size, facts.sha256
        self.facts, self.runtime = facts, runtime
        self._graphs, self._device = graphs, device

    @property
    def device(self) -> torch.device:
        """Where tensors are taken and given."""
        return self._device

    def _run(self, part: str, **given: Tensor) -> list[Tensor]:
        graph = self._graphs[part]
        arrays = {name: given[name].detach().cpu().contiguous().numpy() for name in graph.inputs}
        return [torch.from_numpy(answer).to(self.device) for answer in graph.run(arrays)]

    def encode(self, images: Tensor) -> Features:
        """Features of RGB images ``(B, 3, H, W)`` in 0 to 1, as the foundation's own ``encode``."""
        images = self._checked_images(images)
        image, *levels = self._run("encoder", images=images)
        return Features(image, tuple(levels), (images.shape[-2], images.shape[-1]))

    def embed(self, prompts: PromptSet, size: tuple[int, int]) -> Tensor:
        """Tokens ``(N, T, 256)`` of points and boxes in an image of ``size`` (H, W)."""
        return self._embed(*self._list_points(prompts.to(self.device)), size)

    def _embed(self, points: Tensor, labels: Tensor, size: tuple[int, int]) -> Tensor:
        if not labels.numel():
            return torch.zeros(*labels.shape, 256, device=self.device)
        (tokens,) = self._run("prompts", points=points, labels=labels, size=torch.tensor(size).float())
        return tokens

    def _list_points(self, prompts: PromptSet) -> tuple[Tensor, Tensor]:
        """Points and corners ``(N, P, 2)``, labels ``(N, P)``, with padding as the network has it."""
        count = len(prompts)
        points = [torch.zeros(count, 0, 2, device=self.device)]
        labels = [torch.zeros(count, 0, dtype=torch.int64, device=self.device)]
        if prompts.points is not None:
            points.append(prompts.points[..., :2].float())
            labels.append(prompts.points[..., 2].long())
        if prompts.boxes is not None:
            points.append(prompts.boxes.float().reshape(-1, 2, 2))
            labels.append(torch.tensor([TOP_LEFT, BOTTOM_RIGHT], device=self.device).expand(count, 2))
        # Beside a box SAM 2 pads all the same.
        pads = prompts.points is not None if prompts.boxes is None else self.facts.pads == "always"
        if pads:
            points.append(torch.zeros(count, 1, 2, device=self.device))
            labels.append(torch.full((count, 1), POINT_PADDING, device=self.device))
        return torch.cat(points, dim=1), torch.cat(labels, dim=1)

    def decode(self, features: Features, prompts: PromptSet, multimask: bool = False) -> Masks:
        """One mask a prompt, or three readings of it, logits ``(N, K, H/4, W/4)``.

        Raises
        ------
        InputError
            If a prompt points at no encoded image, or a mask prompt is not a quarter of the image's size.
        """
        prompts = self._checked_prompts(features, prompts)
        if not len(prompts):
            return answer_nothing(features, multimask)
        return decode_by_parts(
            prompts, DECODE_CHUNK, lambda part: self._decode_chunk(features, part, multimask)
        )

    def _decode_chunk(self, features: Features, prompts: PromptSet, multimask: bool) -> Masks:
        points, labels = self._list_points(prompts)
        tokens = prompts.tokens
        if tokens is None:
            tokens = self._embed(points, labels, features.size)
        if not labels.numel():
            # Who draws prompts as well draws nothing of a padding point.
            points = torch.zeros(len(prompts), 1, 2)
            labels = torch.full((len(prompts), 1), POINT_PADDING)
        mask, quarter = prompts.mask_logits, [side // 4 for side in features.size]
        levels = dict(zip(("level4", "level8"), features.levels, strict=False))
        logits, iou = self._run(
            "decoder",
            image=features.image.float(),
            **{name: level.float() for name, level in levels.items()},
            index=prompts.image_index,
            tokens=tokens.float(),
            mask=torch.zeros(1, 1, *quarter) if mask is None else mask.float(),
            has_mask=torch.tensor([0.0 if mask is None else 1.0]),
            points=points,
            labels=labels,
        )
        keep = slice(1, None) if multimask else slice(0, 1)
        return Masks(logits[:, keep], iou[:, keep])


class ExportedPointsOnly(PointsOnly, ExportedFoundation):
    """EfficientSAM as graphs compute it, with the same refusals."""

    def _list_points(self, prompts: PromptSet) -> tuple[Tensor, Tensor]:
        places, kinds = find_slots(prompts, self.name)
        return places, torch.where(kinds == PADDING, POINT_PADDING, kinds)


def load_exported(
    folder: Path, runtime: str | None, device: torch.device, dtype: torch.dtype
) -> ExportedFoundation:
    """The foundation whose graphs a folder holds.

    Parameters
    ----------
    runtime
        ``"onnx"`` or ``"openvino"``, which also runs files of the former; None for that of the files.
    dtype
        bfloat16 is for OpenVINO; ONNX Runtime computes float32, and what was quantised, in int8.

    Raises
    ------
    WeightsError
        If files are absent.
    CheckpointError
        If a file is damaged, no graph of ours, or of another foundation than the others.
    ConfigError
        If the runtime cannot run such files.
    DependencyError
        If the runtime is not installed.
    """
    kind = next((kind for kind, end in SUFFIXES.items() if (folder / f"encoder{end}").is_file()), None)
    paths = {part: folder / f"{part}{SUFFIXES[kind or 'onnx']}" for part in PARTS}
    absent = [path.name for path in paths.values() if not path.is_file()]
    if kind is None or absent:
        raise WeightsError(
            f"folder '{folder}' holds no exported foundation ({', '.join(absent)} is not there): "
            "make one by 'domainsam export', or name a foundation"
        )
    runtime = runtime or kind
    if runtime not in RUNTIMES[1:] or (runtime, kind) == ("onnx", "openvino"):
        raise ConfigError(
            f"'{folder}' was exported for {kind}, which --runtime {runtime} cannot run: leave it out"
        )
    if runtime == "onnx" and dtype != torch.float32:
        log.info("onnxruntime computes the exported graphs in their own precision, whatever --precision says")
    graphs = {part: open_graph(path, runtime, device, dtype) for part, path in paths.items()}
    told = {part: Facts.from_json(graph.facts, paths[part]) for part, graph in graphs.items()}
    if len({(one.name, one.sha256) for one in told.values()}) > 1:
        raise CheckpointError(f"'{folder}' holds graphs of different foundations: export one anew")
    facts = told["encoder"]
    make = ExportedPointsOnly if facts.pads == "slots" else ExportedFoundation
    return make(graphs, facts, runtime, device)
