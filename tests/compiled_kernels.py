"""Compiles the kernels of the selection for GPUs that need not be there, with the arguments they are launched with.

    python tests/compiled_kernels.py

prints a JSON list: per launch the kernel, the GPU it is compiled for, the registers of a thread and the bytes of its
stack, which are mostly what did not fit in registers. Triton must not be told to interpret, so this is a process of its
own.
"""

import json
import re
import subprocess
import tempfile
from pathlib import Path

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.backends.nvidia import compiler as nvidia
from triton.compiler import ASTSource

from hf_zspa import DppPruner, WeightedPruner, ZspaPruner
from hf_zspa.remote_code import zspa_kernels, zspa_selection, zspa_similarity

GPUS = {"A100": 80, "H100, H200": 90, "RTX 50": 120}
TYPES = {
    torch.bfloat16: "bf16", torch.float16: "fp16", torch.float32: "fp32", torch.float64: "fp64", torch.int32: "i32",
    torch.int64: "i64",
}  # fmt: skip
# Images, tokens, width, type and pruner of a selection: LLaVA-1.5, LLaVA-NeXT, long ones, several images, one
# token, and widths and numbers of tokens that are no multiples of 16.
SELECTIONS = [
    (1, 576, 4096, torch.bfloat16, ZspaPruner(0.1, 0.2)),
    (1, 576, 4096, torch.bfloat16, WeightedPruner(0.1)),
    (1, 576, 4096, torch.bfloat16, DppPruner(0.1)),
    (1, 2928, 4096, torch.float16, ZspaPruner(0.1, 0.0)),
    (1, 2928, 4096, torch.float16, WeightedPruner(0.1, pooling="none")),
    (3, 2928, 4096, torch.float16, DppPruner(0.1, centre=True)),
    (1, 8192, 64, torch.bfloat16, ZspaPruner(0.1, 0.2)),
    (1, 8192, 64, torch.bfloat16, WeightedPruner(0.1)),
    (1, 8192, 64, torch.bfloat16, DppPruner(0.1)),
    (1, zspa_kernels.LONGEST, 64, torch.bfloat16, ZspaPruner(0.1, 0.0)),
    (1, zspa_kernels.LONGEST, 64, torch.bfloat16, WeightedPruner(0.01)),
    (1, zspa_kernels.LONGEST, 64, torch.bfloat16, DppPruner(0.01)),
    (3, 577, 4096, torch.bfloat16, ZspaPruner(0.1, 0.0)),
    (3, 144, 150, torch.float32, ZspaPruner(0.1, 0.2)),
    (3, 144, 150, torch.float32, WeightedPruner(0.1, -0.5)),
    (3, 144, 150, torch.float32, DppPruner(0.1, 0.0)),
    (1, 1, 16, torch.float64, ZspaPruner(0.1, 0.2)),
    (1, 1, 16, torch.float64, DppPruner(0.1, 0.2)),
    (1, 64, zspa_kernels.WIDEST, torch.bfloat16, ZspaPruner(0.1, 0.2)),
]


class Recorder:
    """Stands in for a kernel, and keeps what it is launched with."""

    def __init__(self, kernel, launches: list):
        self.kernel, self.launches = kernel, launches

    def __getitem__(self, grid):
        return lambda *arguments, **named: self.launches.append((self.kernel, arguments, named))


def launches_of(images: int, n: int, width: int, dtype: torch.dtype, pruner) -> list:
    """What one selection launches; nothing of it runs."""
    launches: list = []
    kernels = {name: kernel for name, kernel in vars(zspa_kernels).items() if name.endswith("_kernel")}
    try:
        for name, kernel in kernels.items():
            setattr(zspa_kernels, name, Recorder(kernel, launches))
        tokens, prompts = ([torch.zeros(m, width, dtype=dtype)] * images for m in (n, 3))
        pruner(tokens, prompts)
    finally:
        vars(zspa_kernels).update(kernels)
    return launches


def compiled(kernel, arguments, named, capability: int) -> dict:
    """The registers and the stack of a thread, compiled as a launch does it: an integer of 1 is a constant, and of
    integers and addresses it is known whether 16 divides them."""
    options = {"num_warps": named["num_warps"]}
    constants = {name: value for name, value in named.items() if name != "num_warps"}
    plain = {kernel.arg_names[i] for i in kernel.do_not_specialize if isinstance(i, int)} | {*kernel.do_not_specialize}
    signature, attributes = dict.fromkeys(constants, "constexpr"), {}
    for place, (name, value) in enumerate(zip(kernel.arg_names, arguments)):
        is_tensor, is_int = isinstance(value, torch.Tensor), isinstance(value, int)
        signature[name] = f"*{TYPES[value.dtype]}" if is_tensor else "i32" if is_int else "fp32"
        if is_int and name not in plain and value == 1:
            signature[name], constants[name] = "constexpr", 1
        elif is_tensor or (is_int and name not in plain and value % 16 == 0):
            attributes[(place,)] = [["tt.divisibility", 16]]
    signature = {name: signature[name] for name in kernel.arg_names}
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants, attrs=attributes)
    binary = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options).asm["cubin"]
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(binary)
        file.flush()
        tool = Path(nvidia.__file__).parent / "bin" / "cuobjdump"
        usage = subprocess.run([tool, "-res-usage", file.name], capture_output=True, text=True, check=True).stdout
    return {"registers": int(re.search(r"REG:(\d+)", usage)[1]), "stack": int(re.search(r"STACK:(\d+)", usage)[1])}


def main() -> None:
    for module in (zspa_similarity, zspa_selection):
        module.on_cpu = lambda tensor: False
    zspa_similarity.products = zspa_kernels.products = lambda a, b: torch.empty(*a.shape[:2], b.shape[1], device="meta")
    found = [
        {"kernel": kernel.__name__, "tokens": case[1], "gpu": gpu, **named, **compiled(kernel, arguments, named, sm)}
        for case in SELECTIONS
        for kernel, arguments, named in launches_of(*case)
        for gpu, sm in GPUS.items()
    ]
    print(json.dumps(found))


if __name__ == "__main__":
    main()
