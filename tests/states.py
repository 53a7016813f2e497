"""States that a program may leave torch in, none of which may change what is selected."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial

import torch


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def default_device(device: str) -> Iterator[None]:
    torch.set_default_device(device)
    try:
        yield
    finally:
        torch.set_default_device(None)


@contextmanager
def matmul_precision(precision: str) -> Iterator[None]:
    torch.set_float32_matmul_precision(precision)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision("highest")


@contextmanager
def backend_setting(backend, name: str, value) -> Iterator[None]:
    before = getattr(backend, name)
    setattr(backend, name, value)
    try:
        yield
    finally:
        setattr(backend, name, before)


@contextmanager
def tf32_everywhere() -> Iterator[None]:
    """What is set for all backends, and for none of them otherwise."""
    matmuls = [torch.backends.cuda.matmul, torch.backends.mkldnn.matmul]
    for matmul in matmuls:
        matmul.fp32_precision = "none"
    try:
        with backend_setting(torch.backends, "fp32_precision", "tf32"):
            yield
    finally:
        torch.set_float32_matmul_precision("highest")


@contextmanager
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True, warn_only=torch.cuda.is_available())  # it would want cuBLAS set up
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


IMPRECISE: dict[str, Callable[[], AbstractContextManager]] = {
    "matmul precision high": partial(matmul_precision, "high"),
    "matmul precision medium": partial(matmul_precision, "medium"),
    "allow_tf32": partial(backend_setting, torch.backends.cuda.matmul, "allow_tf32", True),
}
if hasattr(torch.backends.cuda.matmul, "allow_fp16_accumulation"):
    IMPRECISE["float16 accumulation"] = partial(
        backend_setting, torch.backends.cuda.matmul, "allow_fp16_accumulation", True
    )
if hasattr(torch.backends.cuda.matmul, "fp32_precision"):  # torch 2.9
    IMPRECISE |= {
        "tf32 on CUDA": partial(backend_setting, torch.backends.cuda.matmul, "fp32_precision", "tf32"),
        "bf16 in oneDNN": partial(backend_setting, torch.backends.mkldnn.matmul, "fp32_precision", "bf16"),
        "tf32 everywhere": tf32_everywhere,
    }


def states(device: str, elsewhere: str) -> dict[str, Callable[[], AbstractContextManager]]:
    """By name, for a selection on the type of device `device`; `elsewhere` is another one to make tensors on."""
    return {
        "autocast bfloat16": partial(torch.autocast, device, torch.bfloat16),
        "autocast float16": partial(torch.autocast, device, torch.float16),
        "default dtype bfloat16": partial(default_dtype, torch.bfloat16),
        "default dtype float64": partial(default_dtype, torch.float64),
        "default device": partial(default_device, elsewhere),
        "device context": partial(torch.device, elsewhere),
        "deterministic": deterministic,
        "inference mode": torch.inference_mode,
        "no grad": torch.no_grad,
        "grad": torch.enable_grad,
        **IMPRECISE,
    }
