"""Write a foundation as three graphs that other runtimes compute, and refuse them where they do not agree.

ONNX by torch's tracing exporter; OpenVINO's own format is made from that. Every graph holds for images,
batches and numbers of prompts of any size that its foundation takes.
"""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import domainsam
from domainsam.errors import CheckpointError, ConfigError
from domainsam.foundation.efficient import EfficientFoundation
from domainsam.foundation.exported import (
    FORMAT,
    KEY,
    PARTS,
    SUFFIXES,
    ExportedFoundation,
    Facts,
    import_openvino,
    load_exported,
    missing_runtime,
)
from domainsam.foundation.graphs import (
    DecoderGraph,
    EncoderGraph,
    PromptGraph,
    list_inputs,
    list_outputs,
    require_exportable,
    takes_masks,
)
from domainsam.foundation.sam import SamFoundation
from domainsam.foundation.sam2 import Sam2Foundation
from domainsam.foundations import IMAGENET, SAM_PIXELS, find_foundations
from domainsam.prompts import PromptSet
from domainsam.protocols import Features, Foundation

OPSET = 17
"""Of the ONNX files: the first with layer norms of their own."""
TOLERANCE = 1e-3
"""Largest difference from torch that a file may have, as a share of the largest value; 3e-5 were found."""
TRACED = (160, 96)
"""Height and width that graphs are traced at: a grid that no window divides, so that padding is in them."""
CHECKED = ((160, 96), (224, 448))
"""Height and width of images that every export is compared on, beside the foundation's own size."""
PROTOBUF_LIMIT = 1_900_000_000
"""Bytes of weights beyond which they go into a file beside the graph: protobuf ends at 2^31."""
BESIDE = ".data"
"""Ending of that file."""
GRAPHS = tuple(f"{part}{SUFFIXES['onnx']}" for part in PARTS)


@dataclass(frozen=True)
class Exported:
    """What was written: the files' names, what they say of themselves."""

    files: tuple[str, ...]
    facts: Facts


def export_foundation(
    foundation: Foundation,
    folder: Path,
    target: str,
    quantise: Callable[[Path, Path], None] | None = None,
    own_size: bool = True,
) -> Exported:
    """Write encoder, prompts and decoder into a folder, which must be there, and compare them with torch.

    Parameters
    ----------
    foundation
        On the CPU in float32, its weights in place.
    target
        ``"onnx"`` or ``"openvino"``.
    quantise
        Writes an encoder in int8, given the path of the one in float32 and its own. What it costs is not
        checked here but measured (:mod:`domainsam.assess.cost`).
    own_size
        Compare at the foundation's own size too, which takes as long as two of its images.

    Raises
    ------
    ConfigError
        If the foundation cannot be exported.
    CheckpointError
        If the graphs do not give what torch gives; nothing is left in the folder.
    DependencyError
        If the target's packages are not installed.
    """
    require_exportable(foundation)
    require_runtime(target)
    facts = describe(foundation)
    scratch = Path(mkdtemp(dir=folder, prefix="."))
    try:
        _trace_all(foundation, scratch)
        _label_all(foundation, scratch, facts)
        if target == "openvino":
            _convert_all(scratch, facts)
        found = compare(
            foundation, load_exported(scratch, target, torch.device("cpu"), torch.float32), own_size
        )
        if not found <= TOLERANCE:
            raise CheckpointError(
                f"{foundation.name} exported to {target} differs from torch by {found:.1e} of the largest "
                f"value, more than {TOLERANCE:.0e}: nothing was written; use --runtime torch, and report it"
            )
        facts = replace(facts, difference=found)
        if quantise is not None:
            _quantise(scratch, quantise)
            facts = replace(facts, precision="int8")
        if target == "openvino":
            _convert_all(scratch, facts)
            for path in scratch.glob("*.onnx*"):
                path.unlink()
        else:
            _label_all(foundation, scratch, facts)
        files = tuple(sorted(path.name for path in scratch.iterdir()))
        for name in files:
            (scratch / name).replace(folder / name)
        return Exported(files, facts)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def list_files(foundation: Foundation, target: str, folder: Path) -> tuple[str, ...]:
    """Names of the files that an export writes.

    Raises
    ------
    ConfigError
        If the foundation cannot be exported, or the folder holds one for another runtime.
    """
    require_exportable(foundation)
    others = [
        kind for kind, end in SUFFIXES.items() if kind != target and (folder / f"encoder{end}").exists()
    ]
    if others:
        raise ConfigError(
            f"'{folder}' holds a foundation exported to {others[0]} already: choose another folder"
        )
    if target == "openvino":
        return tuple(f"{part}{end}" for part in PARTS for end in (".xml", ".bin"))
    beside = (f"{GRAPHS[0]}{BESIDE}",) if is_large(foundation) else ()
    return (*GRAPHS, *beside)


def is_large(foundation: Any) -> bool:
    """Whether an encoder's weights go into a file beside its graph."""
    total = sum(value.numel() * value.element_size() for value in foundation.model.state_dict().values())
    return bool(total > PROTOBUF_LIMIT)


def describe(foundation: Any) -> Facts:
    """What an export's files say of a foundation."""
    row = find_foundations()[foundation.name]
    if isinstance(foundation, EfficientFoundation):
        pixels = foundation.spec.pixels
    else:
        pixels = SAM_PIXELS if isinstance(foundation, SamFoundation) else IMAGENET
    pads = "always" if isinstance(foundation, Sam2Foundation) else "points"
    return Facts(
        name=foundation.name,
        version=domainsam.__version__,
        sha256=foundation.sha256,
        licence=foundation.licence or row.licence,
        image_size=foundation.image_size,
        input=f"RGB in 0 to 1, sides multiples of 32; single pictures: {row.input}",
        mean=pixels.mean,
        std=pixels.std,
        prompts=row.prompts,
        pads=pads if takes_masks(foundation) else "slots",
        precision="float32",
        opset=OPSET,
        tolerance=TOLERANCE,
        difference=0.0,
        notice=row.notice,
        format=FORMAT,
    )


def _trace_all(foundation: Any, folder: Path) -> None:
    height, width = TRACED
    images = torch.rand(1, 3, height, width)
    outputs = list_outputs(foundation)
    with torch.no_grad():
        features: Features = foundation.encode(images)
    points, labels = torch.rand(2, 6, 2) * width, torch.tensor([[1, 1, 2, 3, -1, -1]] * 2)
    given = dict(zip(outputs, (features.image, *features.levels), strict=True)) | {
        "index": torch.zeros(2, dtype=torch.int64),
        "tokens": torch.rand(2, 6, 256),
        "mask": torch.rand(2, 1, height // 4, width // 4),
        "has_mask": torch.ones(1),
        "points": points,
        "labels": labels,
    }
    grid = {0: "images", 2: "height", 3: "width"}
    marks = {0: "prompts", 1: "points"}
    axes = {
        **{name: {0: "images", 2: f"{name}_height", 3: f"{name}_width"} for name in outputs},
        "index": {0: "prompts"},
        "tokens": marks,
        "mask": {0: "masks", 2: "quarter_height", 3: "quarter_width"},
        "points": marks,
        "labels": marks,
    }
    trace(
        EncoderGraph(foundation),
        {"images": images},
        outputs,
        {"images": grid, **axes},
        folder / "encoder.onnx",
    )
    sparse = {"points": points, "labels": labels, "size": torch.tensor(TRACED).float()}
    trace(PromptGraph(foundation), sparse, ("tokens",), axes, folder / "prompts.onnx")
    inputs = {name: given[name] for name in list_inputs(foundation)}
    masks = {"logits": {0: "prompts", 2: "quarter_height", 3: "quarter_width"}, "iou": {0: "prompts"}}
    trace(DecoderGraph(foundation), inputs, ("logits", "iou"), axes | masks, folder / "decoder.onnx")


def require_runtime(runtime: str) -> None:
    """Say at once that a runtime's packages are not installed.

    Raises
    ------
    DependencyError
        Naming the extra.
    """
    try:
        import_module("onnx")
        if runtime == "onnx":
            import_module("onnxruntime")
    except ImportError as error:
        raise missing_runtime(runtime) from error
    if runtime == "openvino":
        import_openvino()


def trace(
    graph: nn.Module,
    given: dict[str, Tensor],
    outputs: Sequence[str],
    axes: dict[str, dict[int, str]],
    path: Path,
) -> None:
    """Write what a module does to the given inputs as an ONNX file, for any size of the named axes.

    Raises
    ------
    ConfigError
        If it uses an operator that ONNX lacks.
    """
    names = [*given, *outputs]
    try:
        with warnings.catch_warnings(), torch.no_grad():
            # The exporter tells of sizes that it takes for constants; the comparison shows whether they are.
            warnings.simplefilter("ignore")
            torch.onnx.export(
                graph.eval(),
                tuple(given.values()),
                str(path),
                input_names=list(given),
                output_names=list(outputs),
                dynamic_axes={name: axes[name] for name in names if name in axes},
                opset_version=OPSET,
                dynamo=False,
            )
    except (torch.onnx.errors.OnnxExporterError, torch.onnx.errors.SymbolicValueError) as error:
        reason = " ".join(str(error).split())[:160]
        raise ConfigError(
            f"{path.stem} has an operator that ONNX {OPSET} lacks ({reason}): use --runtime torch"
        ) from error


def _label_all(foundation: Any, folder: Path, facts: Facts) -> None:
    for name in GRAPHS:
        label(folder / name, facts, beside=name == GRAPHS[0] and is_large(foundation))


def label(path: Path, facts: Facts, beside: bool = False) -> None:
    """Put facts into an ONNX file's metadata, its weights beside it where protobuf could not hold them."""
    import onnx

    model = onnx.load(path)
    for scattered in path.parent.iterdir():
        # The exporter writes each tensor of a large network into a file of its own.
        if scattered.name.removesuffix(BESIDE) not in GRAPHS:
            scattered.unlink()
    entry = next((one for one in model.metadata_props if one.key == KEY), None) or model.metadata_props.add()
    entry.key, entry.value = KEY, facts.to_json()
    model.producer_name, model.producer_version = "domainsam", facts.version
    path.with_name(path.name + BESIDE).unlink(missing_ok=True)
    onnx.save(model, path, save_as_external_data=beside, location=path.name + BESIDE)


def _convert_all(folder: Path, facts: Facts) -> None:
    """OpenVINO's files of the ONNX files in a folder, beside them."""
    openvino = import_openvino()
    for part in PARTS:
        model = openvino.Core().read_model(folder / f"{part}.onnx")
        model.set_rt_info(facts.to_json(), KEY)
        openvino.save_model(model, folder / f"{part}.xml", compress_to_fp16=False)


def _quantise(folder: Path, quantise: Callable[[Path, Path], None]) -> None:
    """The encoder in int8 in the place of the one in float32; OpenVINO reads the same operators."""
    source, made = folder / "encoder.onnx", folder / "encoder.int8"
    quantise(source, made)
    source.with_name(source.name + BESIDE).unlink(missing_ok=True)
    made.replace(source)


def compare(foundation: Any, exported: ExportedFoundation, own_size: bool = True) -> float:
    """Largest difference of an export from torch, as a share of the largest value of that output.

    Over features, tokens and masks of points, boxes and, where they are understood, masks, of one image
    and of two.
    """
    found = [0.0]
    own = ((foundation.image_size, foundation.image_size),) if own_size else ()
    generator = torch.Generator().manual_seed(0)
    with torch.inference_mode():
        for number, (height, width) in enumerate((*CHECKED, *own)):
            count = 2 if number == 1 else 1
            images = torch.rand(count, 3, height, width, generator=generator)
            wanted: Features = foundation.encode(images)
            given = exported.encode(images)
            found += _differ((wanted.image, *wanted.levels), (given.image, *given.levels))
            for prompts in _make_prompts(count, (height, width), takes_masks(foundation)):
                for multimask in (False, True):
                    one = foundation.decode(wanted, prompts, multimask)
                    other = exported.decode(wanted, prompts, multimask)
                    found += _differ((one.logits, one.iou), (other.logits, other.iou))
    # A NaN must not pass for the smaller of two numbers.
    return float(np.max(found))


def _differ(wanted: Sequence[Tensor], given: Sequence[Tensor]) -> Iterator[float]:
    for one, other in zip(wanted, given, strict=True):
        if one.shape != other.shape:
            yield float("inf")
        elif one.numel():
            yield float((one - other).abs().max() / one.abs().max().clamp(min=1e-12))


def _make_prompts(images: int, size: tuple[int, int], masks: bool) -> Iterator[PromptSet]:
    """Boxes, points and, where understood, rough masks, over all images."""
    height, width = size
    box = torch.tensor([[0.1, 0.2, 0.7, 0.9], [0.3, 0.1, 0.6, 0.5], [0.0, 0.0, 1.0, 1.0]])
    boxes = PromptSet.from_boxes(
        box * torch.tensor([width, height] * 2), image_index=torch.tensor([0, images - 1, 0])
    )
    yield boxes
    points = torch.tensor([[[0.4, 0.5, 1.0], [0.2, 0.7, 1.0]]]) * torch.tensor([width, height, 1.0])
    yield boxes[:1].replace(boxes=None, points=points)
    if masks:
        outside = torch.tensor([[[0.8 * width, 0.8 * height, 0.0]]])
        shape = (1, 1, height // 4, width // 4)
        drawn = torch.linspace(-4, 4, height * width // 16).reshape(shape)
        yield boxes[:1].replace(points=torch.cat([points, outside], dim=1), mask_logits=drawn)
        yield boxes[:1].replace(boxes=None, mask_logits=drawn)
