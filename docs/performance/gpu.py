"""Everything that has to be measured on a GPU, in one command of about ten minutes:

    python docs/performance/gpu.py --output docs/performance/gpu

runs the tests that need a GPU (with Triton's kernels compiled, not interpreted), times the selection, and times
answers by every method on random weights in the shapes of the three 7B models. Writes JSON and, beside it, Markdown.
"""

import argparse
import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from selection import markdown as selection_table
from selection import time_methods

from hf_zspa.bench import shapes
from hf_zspa.bench.machine import machine
from hf_zspa.bench.measure import InterleavedBenchmark, Settings
from hf_zspa.bench.report import markdown as answer_tables
from hf_zspa.output import replace_file
from hf_zspa.remote_code import zspa_kernels

MODELS = ("llava-1.5-7b", "llava-next-7b", "qwen2.5-vl-7b")
TOKENS = (576, 2880, 8192, 16384)
TEST_SECONDS = 200


def run_tests(root: Path) -> dict[str, Any]:
    """The tests marked for a GPU, in a process of their own, and how they ended."""
    options = ["-q", "--tb=short", "-p", "no:cacheprovider", "--capture=sys"]  # what ends the process is not captured
    arguments = [sys.executable, "-m", "pytest", *options, "tests/gpu/test_gpu.py"]
    environment = {**os.environ, "TRITON_INTERPRET": "0"}
    try:
        found = subprocess.run(
            arguments, cwd=root, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=TEST_SECONDS
        )
        status, output, ended = found.returncode, found.stdout, ""
    except subprocess.TimeoutExpired as error:
        status, output, ended = 1, error.stdout or b"", f"stopped after {TEST_SECONDS} seconds"
    text = output.decode(errors="replace").strip()
    result = {"exit_status": status, "last_line": ended or (text.splitlines() or [""])[-1]}
    return result | {"output": text[-8000:]} if status else result


def time_selection(device: torch.device, n: int, allowed: float) -> list[dict[str, Any]]:
    """Rows of `time_methods` on `n` bfloat16 features, as a model in that dtype has them."""
    generator = torch.Generator(device).manual_seed(n)
    visual, prompt = (torch.randn(m, 4096, generator=generator, device=device).bfloat16() for m in (n, 40))
    return time_methods((visual, prompt), "random, bfloat16", 0.1, allowed)


def measure(
    device: torch.device,
    models: tuple[str, ...] = MODELS,
    tokens: tuple[int, ...] = TOKENS,
    dtype: torch.dtype = torch.bfloat16,
    seconds: float = 480.0,
) -> Iterator[dict[str, Any]]:
    """The selection at each number of tokens and answers of each model, in about so many seconds, most of them for the
    answers.

    Yields the results so far, first of all and after each stage, so that none is lost to what comes after it. What
    fails is named under "failed" with its error.
    """
    results: dict[str, Any] = {
        "command": "python docs/performance/gpu.py",
        **machine(device),
        "driver": _driver() if device.type == "cuda" else None,
        "selection": [],
        "answers": [],
        "failed": {},
        "kernel": zspa_kernels.usable,
    }
    yield results
    end = time.monotonic() + seconds
    stages: list[tuple[str, Callable[[], None]]] = [
        *((f"{n} tokens", partial(_add_selection, results, device, n, seconds / 60)) for n in tokens),
        *(
            (name, partial(_add_answers, results, name, device, dtype, end, len(models) - number))
            for number, name in enumerate(models)
        ),
    ]
    for name, stage in stages:
        try:
            gc.collect()  # of what the last stage held
            if device.type == "cuda":
                torch.cuda.empty_cache()
            stage()
        except Exception as error:  # whatever it is: the other stages are still worth their time
            results["failed"][name] = f"{type(error).__name__}: {error}"
        results["kernel"] = zspa_kernels.usable  # whether it ran until here, or plain torch took its place
        yield results


def _add_selection(results: dict[str, Any], device: torch.device, n: int, allowed: float) -> None:
    results["selection"] += time_selection(device, n, allowed)


def _add_answers(
    results: dict[str, Any], name: str, device: torch.device, dtype: torch.dtype, end: float, models: int
) -> None:
    """All methods on random weights in a shape, until its share of the time until `end` is over, which so many models
    have before them. What was measured before an error is kept."""
    end = time.monotonic() + (end - time.monotonic()) / models
    model = shapes.build(name, device, dtype)
    inputs = shapes.inputs(name, model)
    found = InterleavedBenchmark(model, Settings())
    try:
        while not found.rounds or time.monotonic() < end:
            found.run(inputs)
    finally:
        if found.rounds:
            results["answers"].append(found.results(name, "random", asdict(shapes.Prompt())))


def markdown(results: dict[str, Any]) -> str:
    parts = [f"{results['device']}, torch {results['torch']}, {results['created']}"]
    if "tests" in results:
        parts.append(f"Tests on the GPU: {results['tests']['last_line']}")
    if not results["kernel"]:
        parts.append("Triton did not run: the selection is plain torch.")
    parts += [f"{name} failed: {error}" for name, error in results["failed"].items()]
    parts.append(selection_table(results["selection"]))
    parts += map(answer_tables, results["answers"])
    return "\n\n".join(parts)


def _driver() -> str | None:
    """The version of the GPU's driver, which torch does not know."""
    try:
        command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.split()[0]
    except (OSError, subprocess.SubprocessError, IndexError):
        return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="JSON and Markdown files, without their suffix")
    parser.add_argument("--seconds", type=float, default=480, help="about how long all of it may take, tests included")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        parser.error("there is no GPU that torch can use")
    if os.environ.get("TRITON_INTERPRET", "0") not in ("", "0"):
        parser.error("TRITON_INTERPRET is set, which interprets the kernels on the CPU: unset it")
    end = time.monotonic() + options.seconds
    options.output.parent.mkdir(parents=True, exist_ok=True)
    tests = run_tests(Path(__file__).parents[2])
    print(tests.get("output") or tests["last_line"], flush=True)
    results: dict[str, Any] = {}
    for results in measure(torch.device("cuda"), seconds=end - time.monotonic()):
        results["tests"] = tests
        replace_file(options.output.with_suffix(".json"), (json.dumps(results, indent=1) + "\n").encode())
    table = markdown(results)
    print(table)
    replace_file(options.output.with_suffix(".md"), (table + "\n").encode())
    sys.exit(tests["exit_status"] or bool(results["failed"]) or not results["kernel"])


if __name__ == "__main__":
    main()
