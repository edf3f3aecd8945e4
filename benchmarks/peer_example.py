"""One example on photographs: ours beside Geti Instant Learn's Matcher and PerDINO (Apache-2.0).

::

    python -m benchmarks.peer_example PICTURES [--who ours matcher perdino] [--peer-python PATH] [--out JSON]

``PICTURES`` holds ``OBJECT_NN.jpg`` and ``OBJECT_NN.png`` (its mask, 0 outside), as the samples in the public
repository of PerSAM do; ``00`` is the example and is not scored. Everybody gets the same files and answers
with one mask a picture, that of the greatest score; nothing found is an empty mask. Each runs in a process
of its own, whose seconds count from the example to the last answer, the loading of weights aside. The peer
wants Python 3.13 and its own versions of nearly everything: ``--peer-python`` is the interpreter of an
environment that has it. Where it does not import, or its weights cannot be had, that is said in a line.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

WHO = ("ours", "matcher", "perdino")
REFERENCE = "00"
DRAWS = 2000
"""Of the bootstrap over pictures."""
MISSING = 3
"""Exit code of one who cannot be asked."""
Mask = NDArray[np.bool_]
Ask = Callable[[Path], Mask]
"""From a picture to the mask ``(H, W)`` of what is found in it."""


def list_objects(folder: Path) -> dict[str, list[str]]:
    """Numbers of the pictures of every object, the example's left out."""
    found: dict[str, list[str]] = {}
    for path in sorted(folder.glob("*_??.jpg")):
        name, number = path.stem.rsplit("_", 1)
        if number != REFERENCE and path.with_suffix(".png").is_file():
            found.setdefault(name, []).append(number)
    return {
        name: numbers for name, numbers in found.items() if (folder / f"{name}_{REFERENCE}.png").is_file()
    }


def read_truth(path: Path) -> Mask:
    """A mask ``(H, W)`` from a picture that is 0 outside of the object."""
    values = np.asarray(Image.open(path))
    return np.asarray(values.reshape(*values.shape[:2], -1).any(axis=2))


def measure_iou(truth: Mask, answer: Mask) -> float:
    """Intersection over union; 0 where the answer is of another size."""
    if truth.shape != answer.shape:
        return 0.0
    return float((truth & answer).sum() / max(1, (truth | answer).sum()))


def load_ours(foundation: str) -> Callable[[Path, Path], Ask]:
    """``photo find``'s way, with the foundation loaded."""
    from domainsam.foundation import load_decoder
    from domainsam.prompter.search import ExampleOptions
    from domainsam_photo.find import make_finder
    from domainsam_photo.read.marked import Example
    from domainsam_photo.read.pictures import read_picture
    from domainsam_photo.settings import FindOptions, RunOptions

    network, _ = load_decoder(foundation, "cpu", "fp32")

    def show(picture: Path, mask: Path) -> Ask:
        example = Example(picture, mask)
        options = FindOptions(RunOptions(Path()), ExampleOptions(most=1, always=True), ())
        find = make_finder([example], [], network, options)

        def ask(path: Path) -> Mask:
            pixels = read_picture(path)
            found = find(pixels)
            if not found:
                return np.zeros(pixels.shape[:2], bool)
            return np.asarray(max(found, key=lambda one: one.score).mask)

        return ask

    return show


def load_theirs(name: str, encoder: str) -> Callable[[Path, Path], Ask]:
    """The peer's model of that name, with its weights loaded."""
    import torch
    from instantlearn.data import Sample
    from instantlearn.models import Matcher, PerDino

    model = {"matcher": Matcher, "perdino": PerDino}[name](
        encoder_model=encoder, device="cpu", precision="fp32"
    )

    def show(picture: Path, mask: Path) -> Ask:
        model.fit(Sample(image_path=str(picture), mask_paths=str(mask)))

        def ask(path: Path) -> Mask:
            with torch.inference_mode():
                told = model.predict([str(path)])[0]
            masks = np.asarray(told["pred_masks"].cpu()) > 0
            if not len(masks):
                return np.zeros(np.asarray(Image.open(path)).shape[:2], bool)
            return np.asarray(masks[int(told["pred_scores"].argmax())])

        return ask

    return show


def answer_all(who: str, folder: Path, out: Path, given: argparse.Namespace) -> dict[str, Any]:
    """Write everybody's masks to ``out``, and tell seconds and memory."""
    load = load_ours(given.foundation) if who == "ours" else load_theirs(who, given.encoder)
    start, cpu = perf_counter(), process_time()
    for name, numbers in list_objects(folder).items():
        shown = out / f"{name}_reference.png"
        Image.fromarray(read_truth(folder / f"{name}_{REFERENCE}.png").astype(np.uint8) * 255).save(shown)
        ask = load(folder / f"{name}_{REFERENCE}.jpg", shown)
        for number in numbers:
            mask = ask(folder / f"{name}_{number}.jpg")
            Image.fromarray(mask.astype(np.uint8) * 255).save(out / f"{name}_{number}.png")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": perf_counter() - start, "cpu_seconds": process_time() - cpu, "peak_mb": peak}


def score_all(folder: Path, out: Path) -> dict[str, float]:
    """IoU of every picture's answer."""
    return {
        f"{name}_{number}": measure_iou(
            read_truth(folder / f"{name}_{number}.png"), read_truth(out / f"{name}_{number}.png")
        )
        for name, numbers in list_objects(folder).items()
        for number in numbers
    }


def bound_mean(values: Sequence[float]) -> tuple[float, float, float]:
    """The mean and its 95 % interval from resampling pictures."""
    table, rng = np.array(values), np.random.default_rng(0)
    draws = table[rng.integers(len(table), size=(DRAWS, len(table)))].mean(axis=1)
    low, high = np.quantile(draws, [0.025, 0.975])
    return float(table.mean()), float(low), float(high)


def run_one(who: str, given: argparse.Namespace) -> dict[str, Any]:
    """What one made of all pictures, or why nothing came."""
    python = sys.executable if who == "ours" or given.peer_python is None else given.peer_python
    with tempfile.TemporaryDirectory() as folder:
        words = [
            "--answer",
            who,
            "--into",
            folder,
            "--foundation",
            given.foundation,
            "--encoder",
            given.encoder,
        ]
        command = [str(python), str(Path(__file__).resolve()), str(given.pictures.resolve()), *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            last = (done.stderr.strip() or f"it ended with exit code {done.returncode}").splitlines()[-1]
            return {"who": who, "missing": last}
        told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return {"who": who, **told, "iou": score_all(given.pictures, Path(folder))}


def describe(one: dict[str, Any]) -> str:
    """A line of the table."""
    if "missing" in one:
        return f"{one['who']:8s} not run: {one['missing']}"
    mean, low, high = bound_mean(list(one["iou"].values()))
    count = len(one["iou"])
    return (
        f"{one['who']:8s} mIoU {mean:.3f} [{low:.3f}, {high:.3f}] of {count} pictures, "
        f"{one['seconds']:.1f} s ({one['cpu_seconds']:.1f} CPU s), peak {one['peak_mb']:.0f} MB"
    )


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--who", nargs="+", choices=WHO, default=WHO)
    parser.add_argument("--foundation", default="embedded", help="ours decodes with it")
    parser.add_argument("--encoder", default="dinov3_large", help="the peer's encoder; this is its default")
    parser.add_argument("--peer-python", type=Path, help="interpreter of an environment with instantlearn")
    parser.add_argument("--out", type=Path, help="all figures as JSON")
    parser.add_argument("--answer", choices=WHO, help=argparse.SUPPRESS)
    parser.add_argument("--into", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if not list_objects(given.pictures):
        parser.error(f"{given.pictures}: no OBJECT_00.jpg with OBJECT_00.png and others; expected such pairs")
    if given.answer:
        try:
            told = answer_all(given.answer, given.pictures, given.into, given)
        except (ImportError, OSError) as error:
            sys.stderr.write(f"{type(error).__name__}: {' '.join(str(error).split())}\n")
            sys.exit(MISSING)
        sys.stdout.write(json.dumps(told) + "\n")
        return
    rows = []
    for who in given.who:
        rows.append(run_one(who, given))
        sys.stdout.write(describe(rows[-1]) + "\n")
        sys.stdout.flush()
    if given.out:
        given.out.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
