"""Whole scenes from file to file: ours against the tiled inference of geoai.

    pip install -e ".[bench]"
    python benchmarks/urban_throughput.py [--sizes 4k,8k] [--peer-python PATH]

All contestants get the same generated scene (RGB bytes with two wedges
without data), network (SegFormer MiT-B0), weights, tiles, overlap, batch and
threads, and are held to as many cores as threads. Each runs in a process of
its own, in turns. Wall and CPU seconds run from opening the scene to the
finished files, without imports and loading the weights; memory is the
process's peak, with them.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
SIZES = "4k,8k,16k,32kx8k"
CONTESTANTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "geoai": ("throughput_geoai.py", ()),
    "geoai-published": ("throughput_geoai.py", ("--published",)),
    "ours": ("throughput_ours.py", ("--precision", "auto")),
    "ours-fp32": ("throughput_ours.py", ("--precision", "fp32")),
    "ours-polygons": ("throughput_ours.py", ("--polygons", "--precision", "auto")),
    "ours-full": ("throughput_ours.py", ("--polygons", "--method", "full", "--precision", "auto")),
    "ours-full-fp32": ("throughput_ours.py", ("--polygons", "--method", "full", "--precision", "fp32")),
}
PEERS = ("geoai", "geoai-published")
TITLES = {
    "geoai": "geoai, our network, fp32 → raster",
    "geoai-published": "geoai, transformers' SegFormer, fp32 → raster",
    "ours": "ours, pass one, auto → raster",
    "ours-fp32": "ours, pass one, fp32 → raster",
    "ours-polygons": "ours, pass one, auto → rasters, polygons",
    "ours-full": "ours, both passes, auto → rasters, polygons",
    "ours-full-fp32": "ours, both passes, fp32 → rasters, polygons",
}


@dataclass
class Row:
    """What the rounds of one contestant on one scene gave."""

    name: str
    seconds: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    peak_gb: float = 0.0
    iou: float | None = None
    failure: str | None = None
    facts: dict[str, Any] = field(default_factory=dict)


def parse_size(text: str) -> tuple[int, int]:
    """``4k``, ``600`` or ``32kx8k`` (width x height) as rows and columns; k is 1024."""
    sides = [
        int(number) * (1024 if thousand else 1) for number, thousand in re.findall(r"(\d+)(k?)", text.lower())
    ]
    if not re.fullmatch(r"\d+k?(x\d+k?)?", text.lower()):
        raise argparse.ArgumentTypeError(f"{text!r} is no size such as 4k or 32kx8k")
    return sides[-1], sides[0]


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", default=SIZES, help="width x height, k is 1024 [%(default)s]")
    parser.add_argument("--contestants", default=",".join(CONTESTANTS), help="[%(default)s]")
    parser.add_argument("--peer-python", default=sys.executable, help="interpreter that can import geoai")
    parser.add_argument("--model", type=Path, help="model file [seeded, its last layer fitted to a drawing]")
    parser.add_argument("--foundation", help="foundation of ours-full [embedded, random if there is none]")
    parser.add_argument("--tile", type=int, default=512)
    parser.add_argument("--overlap", type=int, default=128)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--timeout", type=float, default=7200, help="seconds for one run [%(default)s]")
    parser.add_argument("--folder", type=Path, help="where scenes and outputs go [a temporary folder]")
    parser.add_argument("--json", type=Path, help="write all figures to this file too")
    given = parser.parse_args()
    given.sizes = {text: parse_size(text) for text in given.sizes.split(",")}
    given.contestants = given.contestants.split(",")
    unknown = set(given.contestants) - set(CONTESTANTS)
    if unknown:
        parser.error(f"unknown contestants {sorted(unknown)}; there are: {', '.join(CONTESTANTS)}")
    return given


def scene_tool(*arguments: object) -> str:
    command = [sys.executable, str(HERE / "throughput_scene.py"), *map(str, arguments)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def run_contestant(row: Row, scene: Path, out: Path, given: argparse.Namespace) -> None:
    """One round of one contestant; a failure is noted and ends its rounds."""
    script, own = CONTESTANTS[row.name]
    python = given.peer_python if row.name in PEERS else sys.executable
    command = [python, "-W", "ignore", HERE / script, "--scene", scene, "--model", given.model, "--out", out]
    command += ["--tile", given.tile, "--overlap", given.overlap]
    command += ["--batch-size", given.batch_size, "--threads", given.threads, *own]
    if row.name not in PEERS:
        command += ["--foundation", given.foundation]
    environment = {**os.environ, "OMP_NUM_THREADS": str(given.threads), "MKL_NUM_THREADS": str(given.threads)}
    with tempfile.TemporaryFile("w+") as answer, tempfile.TemporaryFile("w+") as complaint:
        child = subprocess.Popen(list(map(str, command)), stdout=answer, stderr=complaint, env=environment)
        overtime = threading.Event()

        def give_up() -> None:
            overtime.set()
            child.kill()

        clock = threading.Timer(given.timeout, give_up)
        clock.start()
        # This process stays small, so that the peak it hands down on forking does not count.
        _, status, usage = os.wait4(child.pid, 0)
        clock.cancel()
        child.returncode = os.waitstatus_to_exitcode(status)
        row.peak_gb = max(row.peak_gb, usage.ru_maxrss / 1e6)
        answer.seek(0)
        complaint.seek(0)
        if child.returncode:
            row.failure = reason(child.returncode, overtime.is_set(), complaint.read(), given.timeout)
            return
        row.facts = json.loads(answer.read().splitlines()[-1])
    row.seconds.append(row.facts.pop("seconds"))
    row.cpu.append(row.facts.pop("cpu"))


def reason(code: int, overtime: bool, complaint: str, timeout: float) -> str:
    """Why a contestant failed, in a few words."""
    if overtime:
        return f"not done in {timeout:g} s"
    if code == -9:
        return "killed by the system (out of memory)"
    lines = [line for line in complaint.splitlines() if line.strip()]
    return f"exit code {code}: {lines[-1][:120] if lines else 'no message'}"


def compare(label: str, shape: tuple[int, int], given: argparse.Namespace) -> list[Row]:
    """All contestants on one scene, in turns; masks are compared with the first contestant's."""
    scene = given.folder / f"scene_{label}.tif"
    if not scene.exists():
        scene_tool("scene", *shape, scene)
    rows = [Row(name) for name in given.contestants]
    outputs = {row.name: given.folder / label / row.name / "probability.tif" for row in rows}
    for number in range(given.repeat):
        for row in rows:
            out = outputs[row.name]
            shutil.rmtree(out.parent, ignore_errors=True)
            out.parent.mkdir(parents=True)
            print(f"{label}, round {number + 1}: {row.name}", file=sys.stderr)
            if row.failure is None:
                run_contestant(row, scene, out, given)
    done = [row for row in rows if row.failure is None]
    for row in done:
        iou, share = map(float, scene_tool("agreement", outputs[row.name], outputs[done[0].name]).split())
        row.iou = iou
        row.facts["settlement_share"] = share
    shutil.rmtree(given.folder / label)
    scene.unlink()
    return rows


def table(label: str, shape: tuple[int, int], rows: list[Row]) -> str:
    """Markdown; speeds are medians over the rounds, memory is the largest."""
    megapixels = shape[0] * shape[1] / 1e6
    reference = next((row for row in rows if row.failure is None), None)
    against = reference.name if reference else "-"
    lines = [
        f"\n### {label}: {shape[1]} x {shape[0]} pixels, {megapixels:.0f} Mpx",
        f"\nSpeed and IoU of the mask against {against}.\n",
        "| contestant | Mpx/s | speed | CPU s/Mpx | peak GB | mask IoU | polygons |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        title = TITLES[row.name]
        if row.failure is not None or reference is None:
            lines.append(f"| {title} | failed: {row.failure} | | | {row.peak_gb:.2f} | | |")
            continue
        took = statistics.median(row.seconds)
        speed = statistics.median(reference.seconds) / took
        cpu = statistics.median(row.cpu) / megapixels
        lines.append(
            f"| {title} | {megapixels / took:.2f} | {speed:.2f}x | {cpu:.2f} | {row.peak_gb:.2f} "
            f"| {row.iou:.4f} | {row.facts.get('polygons', '')} |"
        )
    return "\n".join(lines)


def main() -> None:
    given = options()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: given.threads])
    with tempfile.TemporaryDirectory(prefix="throughput-") as temporary:
        given.folder = given.folder or Path(temporary)
        given.folder.mkdir(parents=True, exist_ok=True)
        if given.model is None:
            given.model = given.folder / "model.safetensors"
            made = given.folder / "foundation.safetensors"
            scene_tool("model", given.model, made)
            given.foundation = given.foundation or made
        given.foundation = given.foundation or "embedded"
        load = os.getloadavg()[0]
        print(
            f"{given.threads} threads and cores, tiles of {given.tile} px overlapping by {given.overlap}, "
            f"batches of {given.batch_size}, {given.repeat} rounds; load of the machine before: {load:.1f}"
        )
        everything = {}
        for label, shape in given.sizes.items():
            rows = compare(label, shape, given)
            print(table(label, shape, rows), flush=True)
            everything[label] = {"shape": shape, "rows": [vars(row) for row in rows]}
            if given.json:
                given.json.write_text(json.dumps(everything, indent=2) + "\n")


if __name__ == "__main__":
    main()
