"""What this checkout does on a GPU, against its own CPU, in at most eight minutes.

    python benchmarks/on_gpu.py -o on_gpu/
    python benchmarks/on_gpu.py --device cpu --quick -o trial/     # the same script where there is no GPU

It needs nothing but the checkout and its requirements: inputs are generated, weights are those inside the
package or random. One JSON and one table (Markdown) tell

- the main job of each pack on both devices: share of equal pixels, seconds, peak memory of the device;
- training steps in float32 and in bfloat16: steps a second, and the loss before and after;
- every image encoder: images a second, memory, share of the device's own matrix products, ratio to SAM
  ViT-H; on CUDA also compiled, with CUDA graphs;
- a batch that cannot fit: how far it was halved.

What fails is a row that says why. What the time no longer allows is a row that says so.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
for folder in (ROOT / "domains", ROOT / "cli", ROOT):
    sys.path.insert(0, str(folder))

import numpy as np
import torch
from numpy.typing import NDArray

from domainsam.assess.speed import Plan, compare, measure_ceiling, measure_speed
from domainsam.errors import one_line
from domainsam.foundation import load_foundation
from domainsam.foundations import find_foundations
from domainsam.machine import PRECISIONS
from domainsam.metrics.tables import clean_row
from domainsam.train.devices import OneDevice, choose_training_precision

LIMIT_S = 480.0
"""Of the whole script; a step is not begun that will hardly end in time."""
HIDDEN = ("fake",)
REFERENCE = ("sam_vit_h",)
"""First of the encoders, because all are compared with it."""
SIDES = {"full": 2048, "quick": 256}
"""Pixels of the scene that settlements are mapped on."""
STEPS = {"full": 20, "quick": 3}
SAFE_SHARE = 0.5
"""Of the device's memory that the images alone take in the batch that cannot fit."""

Row = dict[str, Any]


@dataclass
class Report:
    """Rows by section, and the time that is left."""

    device: str
    quick: bool
    begin: float = field(default_factory=time.perf_counter)
    limit: float = LIMIT_S
    sections: dict[str, list[Row]] = field(default_factory=dict)

    @property
    def left(self) -> float:
        """Seconds."""
        return self.limit - (time.perf_counter() - self.begin)

    def run(self, section: str, name: str, needs: float, work: Callable[[], Row]) -> None:
        """Add a row: what ``work`` returns, or why there is none."""
        rows = self.sections.setdefault(section, [])
        if self.left < needs:
            rows.append({"what": name, "note": f"left out: {self.left:.0f} s left, about {needs:.0f} needed"})
        else:
            try:
                rows.append({"what": name, **clean_row(work())})
            except Exception as error:
                # A benchmark on a strange machine tells all it can.
                rows.append({"what": name, "note": f"{type(error).__name__}: {one_line(error)[:200]}"})
        print(f"[{time.perf_counter() - self.begin:5.0f} s] {section}: {name}", file=sys.stderr, flush=True)


def time_on(device: str, work: Callable[[], Any]) -> tuple[Any, float, float | None]:
    """What ``work`` gives, its seconds, and on CUDA the peak of allocated megabytes."""
    cuda = torch.device(device).type == "cuda"
    if cuda:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    begin = time.perf_counter()
    answer = work()
    if cuda:
        torch.cuda.synchronize()
    seconds = time.perf_counter() - begin
    return answer, seconds, torch.cuda.max_memory_allocated() / 1e6 if cuda else None


def map_settlements(folder: Path, device: str, quick: bool) -> NDArray[Any]:
    """Both passes of settlements on a drawn scene."""
    import rasterio

    from domainsam_urban.generated import write_sample
    from domainsam_urban.run import run_map

    scene, mask = folder / "scene.tif", folder / f"mask_{device[:4]}.tif"
    if not scene.exists():
        write_sample(scene, folder / "truth.tif", SIDES["quick" if quick else "full"], 0)
    given = {"method": "full", "device": device, "precision": "fp32", "mask": mask, "quiet": True}
    run_map(scene, mask.with_suffix(".gpkg"), **given)
    with rasterio.open(mask) as raster:
        values: NDArray[Any] = raster.read(1)
    return values


def segment_organs(folder: Path, device: str, quick: bool) -> NDArray[Any]:
    """Organs of a drawn abdomen."""
    import nibabel

    from domainsam_ct.generated import draw_abdomen, write_sample
    from domainsam_ct.run import run_segment

    spacing = (2.8, 2.8, 6.0)
    scan, out = folder / "scan.nii.gz", folder / f"organs_{device[:4]}.nii.gz"
    if not scan.exists():
        write_sample(scan, draw_abdomen((64, 64, 4) if quick else (256, 192, 60), spacing, 0)[0], spacing)
    run_segment(scan, out, device=device, precision="fp32", quiet=True)
    return np.asarray(nibabel.load(out).dataobj)


def segment_scene(folder: Path, device: str, quick: bool) -> NDArray[Any]:
    """Classes of a drawn street seen by several sensors."""
    from PIL import Image

    from domainsam_scene.generated.files import write_samples
    from domainsam_scene.run import run_segment

    samples, out = folder / "samples", folder / f"maps_{device[:4]}"
    if not samples.exists():
        write_samples(samples, 1 if quick else 8, 256, 0)
    run_segment(samples, out, layout="plain", device=device, precision="fp32", quiet=True)
    return np.stack([np.asarray(Image.open(path)) for path in sorted(out.glob("*.png"))])


JOBS = {"urban": map_settlements, "ct": segment_organs, "scene": segment_scene}


def compare_devices(report: Report, pack: str, folder: Path) -> Row:
    """A pack's main job on the CPU and on the device."""
    place = folder / pack
    place.mkdir()
    job = JOBS[pack]
    # The first run also pays for imports and kernels; it draws the input and is not timed.
    other = folder / f"{pack}_other"
    if report.device != "cpu":
        job(place, report.device, report.quick)
    found, seconds, peak = time_on(report.device, lambda: job(_fresh(place), report.device, report.quick))
    wanted, cpu_seconds, _ = time_on("cpu", lambda: job(_fresh(place, other), "cpu", report.quick))
    return {
        "equal share": float((found == wanted).mean()),
        "seconds": seconds,
        "cpu seconds": cpu_seconds,
        "times faster": cpu_seconds / seconds,
        "peak MB": peak,
    }


def _fresh(place: Path, other: Path | None = None) -> Path:
    """The folder without results of a run before, its inputs kept; or another one with the same inputs."""
    import shutil

    if other is not None:
        shutil.copytree(place, other)
        place = other
    for path in place.iterdir():
        if path.name.startswith(("mask_", "organs_", "maps_")):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    return place


def train_steps(report: Report, precision: str) -> Row:
    """Steps that teach the embedded encoder its own features anew, all its weights trained."""
    from domainsam.foundation.encoders.repvit import RepVitEncoder

    count, side = STEPS["quick" if report.quick else "full"], 64 if report.quick else 512
    torch.manual_seed(0)
    device = torch.device(report.device)
    devices = OneDevice(device, choose_training_precision(precision, report.device))
    images = torch.rand(2 if report.quick else 8, 3, side, side, device=device)
    with torch.inference_mode():
        wanted = load_foundation("embedded", device).encode(images).image.clone()
    network = RepVitEncoder().to(device).train()
    optimizer = torch.optim.AdamW(network.parameters(), 1e-3)
    losses: list[float] = []

    def work() -> None:
        for _ in range(count):
            with devices.autocast():
                loss = (network(images).image.float() - wanted).square().mean()
            optimizer.zero_grad()
            devices.backward(loss)
            optimizer.step()
            losses.append(float(loss.detach()))

    _, seconds, peak = time_on(report.device, work)
    return {
        "steps/s": count / seconds,
        "images/s": count * len(images) / seconds,
        "first loss": losses[0],
        "last loss": losses[-1],
        "peak MB": peak,
    }


def list_encoders(quick: bool) -> Iterator[str]:
    """Names of encoders, the reference first, then from the cheapest on."""
    if quick:
        yield from ("embedded",)
        return
    rows = {name: row for name, row in find_foundations().items() if name not in HIDDEN and row.gmacs}
    yield from REFERENCE
    yield from sorted(
        (name for name in rows if name not in REFERENCE), key=lambda name: rows[name].gmacs or 0.0
    )


def measure_encoder(report: Report, name: str, precision: str, compiled: bool) -> Row:
    """Throughput of an encoder in a process of its own, at the batch that suits the device."""
    batch = 1 if torch.device(report.device).type == "cpu" else 8
    side = 64 if report.quick else None
    seconds = 0.0 if report.quick else 1.0
    plan = Plan((name,), (batch,), report.device, PRECISIONS[precision], side, seconds, compiled)
    (found,) = measure_speed(plan)
    (row,) = compare([found])
    return {"precision": precision, "compiled": compiled, **row}


def add_ratios(rows: list[Row]) -> None:
    """The ratio to SAM ViT-H in the same arithmetic, which was measured first, into every row, in place."""
    base = {
        (row["precision"], row["compiled"]): row["images_per_second"]
        for row in rows
        if row.get("foundation") == "sam_vit_h" and "images_per_second" in row
    }
    for row in rows:
        reference = base.get((row.get("precision"), row.get("compiled")))
        if reference and "images_per_second" in row:
            row["times_sam_vit_h"] = row["images_per_second"] / reference


def overfill(report: Report) -> Row:
    """A batch whose images alone take half of the device's memory: encoding it has to be halved."""
    name = "embedded"
    side = load_foundation(name).image_size
    memory = torch.cuda.get_device_properties(report.device).total_memory
    batch = int(SAFE_SHARE * memory / (3 * side * side * 4))
    (found,) = measure_speed(Plan((name,), (batch,), report.device, "float32", seconds=0.0))
    return {"asked": batch, "done": found.batch, "halved": found.batch < batch, "peak MB": found.peak_mb}


def run_all(report: Report) -> None:
    """All sections in the order of their worth."""
    cuda = torch.device(report.device).type == "cuda"
    with tempfile.TemporaryDirectory() as scratch:
        for pack in JOBS:
            report.run("packs", pack, 60, partial(compare_devices, report, pack, Path(scratch)))
    for precision in ("fp32", "bf16"):
        report.run("training", precision, 30, partial(train_steps, report, precision))
    for precision in ("fp32", "bf16") if cuda else ("fp32",):
        report.run("ceiling", precision, 10, partial(_ceiling, report, precision))
    if cuda:
        report.run("memory", "a batch that cannot fit", 60, partial(overfill, report))
    ways = [("bf16", False), ("bf16", True)] if cuda else [("fp32", False)]
    for precision, compiled in ways:
        for name in list_encoders(report.quick):
            _encoder(report, name, precision, compiled)
    add_ratios(report.sections.get("encoders", []))


def _encoder(report: Report, name: str, precision: str, compiled: bool) -> None:
    """A row of the table of encoders."""
    label = f"{name}, {precision}{', compiled' if compiled else ''}"
    # Compiling takes a minute for a large encoder, loading a few seconds for any.
    needs = 60.0 if compiled else 25.0
    report.run("encoders", label, needs, partial(measure_encoder, report, name, precision, compiled))


def _ceiling(report: Report, precision: str) -> Row:
    return {"GFLOP/s": measure_ceiling(report.device, getattr(torch, PRECISIONS[precision]))}


def describe_machine(device: str) -> Row:
    """What was measured on."""
    row: Row = {"torch": torch.__version__, "python": platform.python_version(), "device": device}
    row["cpu"], row["threads"] = platform.processor() or platform.machine(), torch.get_num_threads()
    if torch.device(device).type == "cuda":
        facts = torch.cuda.get_device_properties(device)
        row |= {"gpu": facts.name, "gpu GB": facts.total_memory / 1e9, "cuda": torch.version.cuda}
    return row


def make_table(sections: Mapping[str, list[Row]], machine: Row) -> str:
    """Markdown: a table for each section; a row without figures is its note."""
    lines = ["# domainsam on " + str(machine.get("gpu", machine["cpu"])), ""]
    lines += [f"{name}: {value}  " for name, value in machine.items()]
    for section, rows in sections.items():
        names = list(dict.fromkeys(name for row in rows for name in row))
        lines += ["", f"## {section}", "", "| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
        lines += ["| " + " | ".join(_show(row.get(name)) for name in names) + " |" for row in rows]
    return "\n".join([*lines, ""])


def _show(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return "" if value is None else str(value)


def main(arguments: list[str] | None = None) -> int:
    """Run the script; 1 if any row says why it has no figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument(
        "--quick", action="store_true", help="tiny inputs, one encoder: a test of this script"
    )
    parser.add_argument("--limit", type=float, default=LIMIT_S, help="seconds")
    parser.add_argument("-o", "--out", type=Path, default=Path("on_gpu"))
    given = parser.parse_args(arguments)
    if torch.device(given.device).type == "cuda" and not torch.cuda.is_available():
        parser.error("torch sees no CUDA device here: give --device cpu --quick to try the script")
    report = Report(given.device, given.quick, limit=given.limit)
    run_all(report)
    machine = describe_machine(given.device)
    machine["seconds"] = time.perf_counter() - report.begin
    given.out.mkdir(parents=True, exist_ok=True)
    document = {"machine": clean_row(machine), "sections": report.sections}
    (given.out / "on_gpu.json").write_text(json.dumps(document, indent=2))
    table = make_table(report.sections, machine)
    (given.out / "on_gpu.md").write_text(table)
    print(table)
    return int(any("note" in row for rows in report.sections.values() for row in rows))


if __name__ == "__main__":
    raise SystemExit(main())
