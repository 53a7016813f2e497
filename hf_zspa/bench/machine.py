"""What a measurement ran on."""

import os
import platform
from datetime import date
from pathlib import Path
from typing import Any

import torch
import transformers

from ..remote_code import zspa_kernels


def machine(device: torch.device) -> dict[str, Any]:
    """The date, the device and the versions that times depend on."""
    return {
        "created": date.today().isoformat(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else processor(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "triton": zspa_kernels.triton and zspa_kernels.triton.__version__,
        "transformers": transformers.__version__,
    }


def processor() -> str:
    """The processor that times are measured on, how much of it there is, and how much is used."""
    return f"{_processor_name()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads"


def _processor_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{named[0]} ({platform.machine()})" if named else platform.processor() or platform.machine()
