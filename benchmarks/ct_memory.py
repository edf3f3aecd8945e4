"""Time and peak memory of ``domainsam ct segment`` on generated CT of growing length.

python benchmarks/ct_memory.py --slices 100 400 1200
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

import nibabel
import numpy as np

SIDE = 512
SPACING_MM = (0.8, 0.8, 1.0)


def write_volume(path: Path, depth: int) -> None:
    """A body with organs of simple shapes and noise, slice by slice into an uncompressed file."""
    ys, xs = np.mgrid[:SIDE, :SIDE] - SIDE / 2
    body = np.where((ys / 150) ** 2 + (xs / 200) ** 2 < 1, 20, -1000)
    body += np.where(((ys + 20) / 90) ** 2 + ((xs - 80) / 80) ** 2 < 1, 60, 0)
    body += np.where(((ys - 60) / 35) ** 2 + ((xs + 90) / 30) ** 2 < 1, 150, 0)
    random = np.random.default_rng(0)
    grains = random.normal(0, 12, (8, SIDE, SIDE))
    header = nibabel.Nifti1Header()
    header.set_data_dtype(np.int16)
    header.set_data_shape((SIDE, SIDE, depth))
    affine = np.diag([*SPACING_MM, 1.0])
    header.set_sform(affine, 1)
    header.set_qform(affine, 1)
    header["magic"] = b"n+1"
    header["vox_offset"] = 352
    with path.open("wb") as file:
        header.write_to(file)
        file.write(b"\0" * 4)
        for index in range(depth):
            file.write((body + grains[index % 8]).T.astype("<i2").tobytes("F"))


def measure(image: Path, out: Path, words: list[str]) -> dict[str, float]:
    """Run the command in a process of its own."""
    program = str(Path(sys.executable).with_name("domainsam"))
    command = [program, "ct", "segment", str(image), "-o", str(out), "-q", *words]
    start = time.perf_counter()
    child = os.posix_spawn(program, command, os.environ)
    _, status, usage = os.wait4(child, 0)
    if status:
        raise SystemExit(f"the command failed with status {os.waitstatus_to_exitcode(status)}")
    return {
        "wall_s": round(time.perf_counter() - start, 1),
        "cpu_s": round(usage.ru_utime + usage.ru_stime, 1),
        "peak_memory_mb": round(usage.ru_maxrss / 1024),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slices", type=int, nargs="+", default=[100, 400, 1200])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--model", default=None)
    given = parser.parse_args()
    words = ["--device", given.device, *([] if given.model is None else ["--model", given.model])]
    for depth in given.slices:
        with tempfile.TemporaryDirectory() as folder:
            image = Path(folder) / "ct.nii"
            write_volume(image, depth)
            found = measure(image, Path(folder) / "seg.nii.gz", words)
        rate = {"wall_ms_a_slice": round(found["wall_s"] / depth * 1e3, 1)}
        print(json.dumps({"shape": [SIDE, SIDE, depth], **found, **rate}), flush=True)


if __name__ == "__main__":
    main()
