"""Training on one device, or on several through Lightning Fabric."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Any, Literal, Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from domainsam.errors import ConfigError, DependencyError

Precision = Literal["float32", "bfloat16"]
Value = TypeVar("Value")

PATIENCE = timedelta(days=1)
"""How long a process waits for the others: while the first one judges, they have nothing to do."""


class Devices(Protocol):
    """One process's view of the devices."""

    device: torch.device
    rank: int
    """Number of this process; 0 writes files and evaluates."""

    def prepare(self, module: nn.Module, optimizer: Optimizer) -> tuple[Any, Any]:
        """Module and optimiser in the form that is trained."""
        ...

    def autocast(self) -> AbstractContextManager[Any]:
        """The asked-for precision."""
        ...

    def backward(self, loss: Tensor) -> None:
        """Gradients, averaged over all processes."""
        ...

    def shared(self, value: Value) -> Value:
        """The value of process 0, in all processes."""
        ...

    def align(self, tensors: Mapping[str, Tensor]) -> None:
        """Give tensors, in place, their values of process 0."""
        ...

    def close(self) -> None:
        """Return once all processes have come here; nothing may be shared afterwards."""
        ...


def choose_training_precision(name: str, device: str) -> Precision:
    """What ``--precision`` means for training on a device; ``"auto"`` is bfloat16 on GPUs made for it.

    Raises
    ------
    ConfigError
        If float16 is asked for: its gradients would need scaling.
    """
    if name == "fp16":
        raise ConfigError("training in fp16 is not supported: use --precision bf16 or fp32")
    if name == "bf16" or (name == "auto" and device.startswith("cuda") and torch.cuda.is_bf16_supported()):
        return "bfloat16"
    return "float32"


class OneDevice:
    """One process that trains alone."""

    rank = 0

    def __init__(self, device: torch.device, precision: Precision) -> None:
        self.device, self._precision = device, precision

    def prepare(self, module: nn.Module, optimizer: Optimizer) -> tuple[Any, Any]:
        return module, optimizer

    def autocast(self) -> AbstractContextManager[Any]:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self._precision == "bfloat16")

    def backward(self, loss: Tensor) -> None:
        # torch leaves the return type open.
        loss.backward()  # type: ignore[no-untyped-call]

    def shared(self, value: Value) -> Value:
        return value

    def align(self, tensors: Mapping[str, Tensor]) -> None:
        pass

    def close(self) -> None:
        pass


class SeveralDevices:
    """One process a device; each works on batches of its own.

    Raises
    ------
    DependencyError
        If Lightning is not installed.
    """

    def __init__(self, accelerator: str, devices: int, precision: Precision) -> None:
        try:
            from lightning.fabric import Fabric
            from lightning.fabric.strategies import DDPStrategy
        except ImportError as error:
            raise DependencyError(
                "several devices need lightning: run pip install 'domainsam[train]', or use --devices 1"
            ) from error
        # Lightning sets these to INFO for everybody; the root logger's level is the program's own choice.
        for name in ("lightning", "lightning.fabric", "lightning.pytorch"):
            logging.getLogger(name).setLevel(logging.NOTSET)
        self._fabric = Fabric(
            accelerator=accelerator,
            devices=devices,
            # A batch without prompts uses neither mixer nor gate.
            strategy=DDPStrategy(find_unused_parameters=True, timeout=PATIENCE),
            precision="bf16-mixed" if precision == "bfloat16" else "32-true",
        )
        self._fabric.launch()
        if accelerator == "cpu":
            # More threads than cores spend their time waiting for one another.
            torch.set_num_threads(max(1, min(torch.get_num_threads(), (os.cpu_count() or 1) // devices)))
        self.device = self._fabric.device
        self.rank = self._fabric.global_rank

    def prepare(self, module: nn.Module, optimizer: Optimizer) -> tuple[Any, Any]:
        prepared = self._fabric.setup(module, optimizer)
        return prepared[0], prepared[1]

    def autocast(self) -> AbstractContextManager[Any]:
        manager: AbstractContextManager[Any] = self._fabric.autocast()
        return manager

    def backward(self, loss: Tensor) -> None:
        self._fabric.backward(loss)

    def shared(self, value: Value) -> Value:
        result: Value = self._fabric.broadcast(value, src=0)
        return result

    def align(self, tensors: Mapping[str, Tensor]) -> None:
        for tensor in tensors.values():
            torch.distributed.broadcast(tensor, src=0)

    def close(self) -> None:
        # A process that left early would take the others' connections with it.
        self._fabric.barrier()
        torch.distributed.destroy_process_group()


def choose_devices(device: str, count: int, precision: Precision) -> Devices:
    """One device, or ``count`` of its kind.

    Raises
    ------
    ConfigError
        If several are asked for by the name of a single one.
    """
    if count == 1:
        return OneDevice(torch.device(device), precision)
    if ":" in device:
        raise ConfigError(f"--devices {count} needs a kind of device such as cuda, not {device!r}")
    return SeveralDevices(device, count, precision)
