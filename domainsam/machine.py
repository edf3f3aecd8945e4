"""Choose device and precision, and set the memory allocator."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from domainsam.errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    import torch

Precision = Literal["float32", "bfloat16", "float16"]
PRECISIONS: Mapping[str, Precision] = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
"""What ``--precision`` offers beside ``auto``."""

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
    """Tell whether a device computes faster in bfloat16 than in float32: GPUs, and CPUs with units for it.

    A CPU without them computes bfloat16 in float32 after converting it. What
    the CPU has is told by torch from version 2.10 on.
    """
    import torch

    kind = torch.device(device).type
    if kind == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    if kind != "cpu" or not hasattr(torch.cpu, "get_capabilities"):
        return False
    able = torch.cpu.get_capabilities()
    return bool(able.get("amx_bf16") or able.get("avx512_bf16"))


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
