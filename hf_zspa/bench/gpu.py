"""Everything that has to be measured on a GPU, in one command of about ten minutes:

    python -m hf_zspa.bench.gpu --output docs/performance/gpu

runs the tests that need a GPU (with Triton's kernels compiled, not interpreted), times the selection, and races the
methods on random weights in the shapes of the three 7B models. Writes JSON and, beside it, Markdown.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from datetime import date
from pathlib import Path
from typing import Any

import torch
import transformers

from . import shapes
from .measure import Race, Settings
from .report import markdown as race_table
from .selection import markdown as selection_table
from .selection import time_methods

MODELS = ("llava-1.5-7b", "llava-next-7b", "qwen2.5-vl-7b")
TOKENS = (576, 2880, 8192, 16384)


def run_tests(root: Path) -> dict[str, Any]:
    """The tests marked for a GPU, in a process of their own, and how they ended."""
    arguments = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/test_gpu.py"]
    found = subprocess.run(
        arguments, cwd=root, env={**os.environ, "TRITON_INTERPRET": "0"}, capture_output=True, text=True
    )
    lines = found.stdout.strip().splitlines()
    return {"exit_status": found.returncode, "last_line": lines[-1] if lines else found.stderr.strip()[-500:]}


def time_selections(device: torch.device, tokens: tuple[int, ...], allowed: float) -> list[dict[str, Any]]:
    """Rows of `bench.selection` on bfloat16 features, as a model in that dtype has them."""
    rows = []
    for n in tokens:
        generator = torch.Generator(device).manual_seed(n)
        pair = [torch.randn(m, 4096, generator=generator, device=device).bfloat16() for m in (n, 40)]
        rows += time_methods((pair[0], pair[1]), "random, bfloat16", 0.1, allowed)
    return rows


def race(name: str, device: torch.device, dtype: torch.dtype, settings: Settings, allowed: float) -> dict[str, Any]:
    """All methods on random weights in a shape, for so many seconds."""
    model = shapes.build(name, device, dtype)
    inputs = shapes.inputs(name, model)
    found = Race(model, settings)
    end = time.monotonic() + allowed
    while not found.rounds or time.monotonic() < end:
        found.run(inputs, new=not found.rounds)
    return {"model": name, "dtype": str(dtype).removeprefix("torch."), "rows": found.rows()}


def measure(
    device: torch.device,
    models: tuple[str, ...] = MODELS,
    tokens: tuple[int, ...] = TOKENS,
    dtype: torch.dtype = torch.bfloat16,
    allowed: float = 90.0,
) -> dict[str, Any]:
    """The selection at each number of tokens and a race of each model; `allowed` seconds a race."""
    on_gpu = device.type == "cuda"
    return {
        "command": "python -m hf_zspa.bench.gpu",
        "created": date.today().isoformat(),
        "device": torch.cuda.get_device_name(device) if on_gpu else "no GPU",
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "selection": time_selections(device, tokens, allowed / 10),
        "races": [race(name, device, dtype, Settings(), allowed) for name in models],
    }


def markdown(results: dict[str, Any]) -> str:
    parts = [f"{results['device']}, torch {results['torch']}, {results['created']}"]
    if "tests" in results:
        parts.append(f"Tests on the GPU: {results['tests']['last_line']}")
    parts.append(selection_table(results["selection"]))
    parts += [f"{found['model']}, {found['dtype']}\n\n{race_table(found)}" for found in results["races"]]
    return "\n\n".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="JSON and Markdown files, without their suffix")
    parser.add_argument("--seconds", type=float, default=90, help="for each of the three models")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        parser.error("there is no GPU that torch can use")
    tests = run_tests(Path(__file__).parents[2])
    print(tests["last_line"], flush=True)
    results = measure(torch.device("cuda"), allowed=options.seconds) | {"tests": tests}
    options.output.with_suffix(".json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    options.output.with_suffix(".md").write_text(markdown(results) + "\n", encoding="utf-8")
    print(markdown(results))
    sys.exit(tests["exit_status"])


if __name__ == "__main__":
    main()
