"""Choose device and precision, and set the memory allocator."""

from __future__ import annotations

import ctypes
import json
import os
import platform
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Literal

from domainsam.errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    import torch

Precision = Literal["float32", "bfloat16", "float16"]
PRECISIONS: Mapping[str, Precision] = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
"""What ``--precision`` offers beside ``auto``."""

LEAST_GAIN = 1.1
"""bfloat16 is chosen from that speed on: less is not worth its rounding."""
GAINS_FILE = "bfloat16.json"
"""In the user's cache folder: measured speeds by processor."""
_GAINS: dict[str, float] = {}
"""What this process knows of them."""
SWITCH = "DOMAINSAM_KEEP_MEMORY"
"""Environment variable; ``0`` leaves the allocator as it is."""
M_TRIM_THRESHOLD = -1
M_MMAP_MAX = -4
KEPT_BYTES = 2_000_000_000
"""Free memory at the heap's end beyond this goes back to the system. The limit is an ``int``."""


def keep_freed_memory() -> bool:
    """Tell the allocator of this process to keep freed buffers; whether it agreed.

    Networks ask for buffers of many megabytes and free them again with every
    layer. glibc hands such buffers back to the system each time, and the system
    clears every page when it is touched anew: a third of pass one's time on a CPU.

    Holds until the process ends and costs the gaps between buffers, some
    0.2 GB with the usual tiles. Does nothing outside glibc, or with
    :data:`SWITCH` set to ``0``.
    """
    if os.environ.get(SWITCH) == "0" or platform.libc_ver()[0] != "glibc":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    # Large buffers come from the heap instead of mappings of their own, and the heap stays large.
    return bool(mallopt(M_MMAP_MAX, 0)) and bool(mallopt(M_TRIM_THRESHOLD, KEPT_BYTES))


def measure_library_bytes() -> int:
    """Bytes of files, nearly all of them libraries, that this process has mapped; 0 if Linux does not tell.

    Processes of one machine share these pages, which count in the resident size of each.
    """
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssFile:"))
    except (OSError, StopIteration, ValueError, IndexError):
        return 0


def measure_peak_rss() -> float:
    """Largest resident size of this process so far, in megabytes; NaN where the system does not tell."""
    try:
        import resource
    except ImportError:
        return float("nan")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Linux counts in kibibytes, macOS in bytes.
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


def choose_device(name: str) -> str:
    """The device that ``--device`` means on this machine.

    Raises
    ------
    domainsam.errors.ConfigError
        If the name is unknown to torch, or its hardware is absent.
    """
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"--device {name!r} is unknown: use auto, cpu, cuda, cuda:N or mps") from error
    available = {
        "cpu": True,
        "cuda": torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available(),
    }
    if not available.get(device.type, False):
        raise ConfigError(f"--device {name!r} is not available here: use --device cpu or auto")
    return name


def is_quick_in_bfloat16(device: torch.device | str) -> bool:
    """Tell whether a device computes faster in bfloat16 than in float32: GPUs, and CPUs measured to be so.

    A CPU without units for it computes bfloat16 in float32 after converting it; those with
    ``avx512_bf16`` alone may lose too. What the CPU has is told by torch from version 2.10 on; one that has
    units is measured once (:func:`find_bfloat16_gain`).
    """
    import torch

    kind = torch.device(device).type
    if kind == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    if kind != "cpu" or not hasattr(torch.cpu, "get_capabilities"):
        return False
    able = torch.cpu.get_capabilities()
    return bool(able.get("amx_bf16") or able.get("avx512_bf16")) and find_bfloat16_gain() >= LEAST_GAIN


def find_bfloat16_gain() -> float:
    """How many times as fast as float32 this CPU computes bfloat16; measured once and kept.

    Kept by processor, version of torch and threads in :func:`find_user_cache`, so that the same machine
    always chooses the same arithmetic. Where nothing can be kept it is measured in each process.
    """
    import torch

    key = f"{_name_processor()}, torch {torch.__version__}, {torch.get_num_threads()} threads"
    if key in _GAINS:
        return _GAINS[key]
    file = find_user_cache() / GAINS_FILE
    known: dict[str, float] = {}
    with suppress(OSError, ValueError, AttributeError):
        table = json.loads(file.read_text(encoding="utf-8"))
        known = {name: float(value) for name, value in table.items() if isinstance(value, int | float)}
    if key not in known:
        known[key] = measure_bfloat16_gain()
        with suppress(OSError):
            file.parent.mkdir(parents=True, exist_ok=True)
            made = file.with_name(f".{GAINS_FILE}.{os.getpid()}")
            made.write_text(json.dumps(known, indent=1), encoding="utf-8")
            made.replace(file)
    _GAINS[key] = known[key]
    return known[key]


def measure_bfloat16_gain(rounds: int = 5) -> float:
    """Time of the networks' usual layers in float32 by that in bfloat16, each the fastest of some rounds.

    A 3 x 3 and a depthwise convolution, a 1 x 1 convolution with channels last, and a matrix product, of
    the sizes that encoders of both kinds have on tiles of 512 pixels. Takes a second.
    """
    import torch

    images = torch.rand(1, 64, 64, 64).contiguous(memory_format=torch.channels_last)
    layers = torch.nn.ModuleList(
        [
            torch.nn.Conv2d(64, 64, 3, padding=1),
            torch.nn.Conv2d(64, 64, 3, padding=1, groups=64),
            torch.nn.Conv2d(64, 256, 1),
        ]
    ).to(memory_format=torch.channels_last)
    linear, tokens = torch.nn.Linear(384, 1536), torch.rand(1024, 384)
    fastest = []
    with torch.inference_mode():
        for low in (False, True):
            times = []
            with torch.autocast("cpu", torch.bfloat16, enabled=low):
                for _ in range(rounds):
                    begin = perf_counter()
                    for layer in layers:
                        layer(images)
                    linear(tokens)
                    times.append(perf_counter() - begin)
            # The first round converts the weights and builds kernels.
            fastest.append(min(times[1:]))
    return fastest[0] / fastest[1]


def _name_processor() -> str:
    """The processor's name as the system tells it."""
    with suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return platform.processor() or platform.machine()


def find_user_cache() -> Path:
    """The folder of this project in the platform's folder for what can be made anew."""
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "domainsam"


def choose_dtype(name: str, device: str) -> torch.dtype:
    """What :func:`choose_precision` says, as torch calls it."""
    import torch

    dtype: torch.dtype = getattr(torch, choose_precision(name, device))
    return dtype


def require_finite(values: torch.Tensor, what: str) -> torch.Tensor:
    """The same values, if all are finite: NaN is below every threshold and would pass for "nothing found".

    Raises
    ------
    domainsam.errors.CheckpointError
        If one is not.
    """
    import torch

    if not torch.isfinite(values).all():
        raise CheckpointError(
            f"{what} gave values that are NaN or infinite: try --precision fp32; if they stay, the model or "
            "its weights are damaged"
        )
    return values


def choose_precision(name: str, device: str) -> Precision:
    """The precision that ``--precision`` means on a device: ``auto``, ``fp32``, ``bf16`` or ``fp16``."""
    if name != "auto":
        return PRECISIONS[name]
    return "bfloat16" if is_quick_in_bfloat16(device) else "float32"
