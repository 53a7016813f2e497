"""Clocks and gauges: time on the device, and the most memory a call holds."""

import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


def seconds(call: Callable[[], Any], device: torch.device) -> float:
    """How long `call` takes: between two CUDA events on a GPU, on the wall clock elsewhere."""
    if device.type != "cuda":
        start = time.perf_counter()
        call()
        return time.perf_counter() - start
    start_event, end_event = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    with torch.cuda.device(device):  # events belong to the current GPU
        torch.cuda.synchronize()
        start_event.record()
        call()
        end_event.record()
        torch.cuda.synchronize()
    return start_event.elapsed_time(end_event) / 1e3


def peak_memory(call: Callable[[], Any], device: torch.device) -> dict[str, int]:
    """Bytes that `call` holds at most: `tensors` beyond what is there before, on a GPU as torch allocates them; on
    Linux without one also `resident`, the growth of the process."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        allocated = torch.cuda.memory_allocated(device)
        call()
        torch.cuda.synchronize(device)
        return {"tensors": torch.cuda.max_memory_allocated(device) - allocated}
    before = _reset_resident_peak()
    with TensorMemory() as memory:
        call()
    peak = {"tensors": memory.peak}
    return peak if before is None else peak | {"resident": _status("VmHWM") - before}


class TensorMemory(TorchDispatchMode):
    """Counts the bytes of the tensors made inside it; `peak` is the most that were alive at once."""

    def __init__(self):
        super().__init__()
        self.alive = self.peak = 0
        self._seen: weakref.WeakSet = weakref.WeakSet()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        given = {leaf.untyped_storage() for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)}
        results = function(*args, **kwargs or {})
        for leaf in tree_leaves(results):
            if isinstance(leaf, torch.Tensor):
                storage = leaf.untyped_storage()
                if storage not in self._seen and storage not in given:
                    self._seen.add(storage)
                    self.alive += storage.nbytes()
                    weakref.finalize(storage, self._freed, storage.nbytes())
        self.peak = max(self.peak, self.alive)
        return results

    def _freed(self, size: int) -> None:
        self.alive -= size


def _reset_resident_peak() -> int | None:
    """Sets the kernel's high-water mark of the process back and returns what it holds now; None elsewhere."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
        return _status("VmRSS")
    except OSError:
        return None


def _status(name: str) -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) * 1024
