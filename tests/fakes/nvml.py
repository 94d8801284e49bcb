"""The module ``pynvml`` as far as ``machine`` uses it, for a machine of one's choice.  Sizes in MiB."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pynvml

MIB = 1 << 20


@dataclass
class Card:
    """One GPU; ``memory_error`` is the code that its memory query fails with, v2 only where ``only_v2``; ``instances``:
    of MIG, -1: it is partitioned into none."""

    name: str = "NVIDIA Fake 24"
    total: int = 24_000
    free: int = 20_000
    processes: tuple[tuple[int, int | None], ...] = ()
    memory_error: int | None = None
    only_v2: bool = False
    processes_error: int | None = None
    handle_error: int | None = None
    celsius: int | None = 61
    instances: int = 0


@dataclass
class FakeNvml:
    """``error``: what ``nvmlInit`` fails with.  ``hang``: while it is set, nothing answers."""

    cards: list[Card] = field(default_factory=list)
    error: int | None = None
    hang: threading.Event | None = None
    inits: int = 0
    open: int = 0

    NVMLError = pynvml.NVMLError
    nvmlMemory_v2 = pynvml.nvmlMemory_v2
    NVML_TEMPERATURE_GPU = pynvml.NVML_TEMPERATURE_GPU

    def nvmlInit(self) -> None:
        self.inits += 1
        if self.hang is not None:
            self.hang.wait(30)
        if self.error is not None:
            raise pynvml.NVMLError(self.error)
        self.open += 1

    def nvmlShutdown(self) -> None:
        self.open -= 1

    def nvmlSystemGetDriverVersion(self) -> str:
        return "550.54"

    def nvmlDeviceGetCount(self) -> int:
        return len(self.cards)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        error = self.cards[index].handle_error
        if error is not None:
            raise pynvml.NVMLError(error)
        return index

    def nvmlDeviceGetName(self, handle: int) -> bytes:
        return self.cards[handle % 100].name.encode()

    def nvmlDeviceGetUUID(self, handle: int) -> str:
        return f"GPU-{handle}" if handle < 100 else f"MIG-{handle % 100}-{handle // 100}"

    def nvmlDeviceGetMigMode(self, handle: int) -> list[int]:
        if not self.cards[handle].instances:
            raise pynvml.NVMLError(3)
        return [1, 1]

    def nvmlDeviceGetMaxMigDeviceCount(self, handle: int) -> int:
        del handle
        return 7

    def nvmlDeviceGetMigDeviceHandleByIndex(self, handle: int, number: int) -> int:
        if number >= self.cards[handle].instances:
            raise pynvml.NVMLError(6)
        return handle + 100 * (number + 1)

    def nvmlDeviceGetUtilizationRates(self, handle: int) -> SimpleNamespace:
        if handle >= 100:
            raise pynvml.NVMLError(3)
        return SimpleNamespace(gpu=37, memory=12)

    def nvmlDeviceGetTemperature(self, handle: int, sensor: int) -> int:
        del sensor
        celsius = self.cards[handle % 100].celsius
        if celsius is None:
            raise pynvml.NVMLError(3)
        return celsius

    def nvmlDeviceGetMemoryInfo(self, handle: int, version: Any = None) -> SimpleNamespace:
        card = self.cards[handle % 100]
        if card.memory_error is not None and (version or not card.only_v2):
            raise pynvml.NVMLError(card.memory_error)
        used = card.total - card.free
        return SimpleNamespace(total=card.total * MIB, used=used * MIB, free=card.free * MIB)

    def nvmlDeviceGetComputeRunningProcesses(self, handle: int) -> list[SimpleNamespace]:
        card = self.cards[handle % 100]
        if card.processes_error is not None:
            raise pynvml.NVMLError(card.processes_error)
        return [SimpleNamespace(pid=p, usedGpuMemory=None if m is None else m * MIB) for p, m in card.processes]

    def nvmlDeviceGetGraphicsRunningProcesses(self, handle: int) -> list[SimpleNamespace]:
        del handle
        return []
