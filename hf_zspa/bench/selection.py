"""Times the selection alone, all methods in one run, interleaved and warm.

    python -m hf_zspa.bench.selection --output docs/performance/selection-cpu.json

How much work the loop on a CPU can save depends on the values, so there are three kinds of features: `random`;
`clustered`, in which the tokens of a cluster stop being candidates together; and `trained`, what the shipped LLaVA
makes of many scenes, turned into the width of a large model, which leaves every cosine as it is.
"""

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from ..embedded import EVALUATED
from ..embedded.heldout import scene_questions
from ..inference import load_zspa, question_inputs
from ..remote_code.zspa_selection import ZspaPruner
from .published import published_divprune

WIDTH = 4096
PROMPT = 40
KINDS = ("random", "clustered", "trained")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, nargs="+", default=[576, 2880, 8192], help="numbers of visual tokens")
    parser.add_argument("--keep-ratio", type=float, default=0.1)
    parser.add_argument("--seconds", type=float, default=20, help="about how long each size may take")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--output", type=Path, help="JSON file; beside it a Markdown table")
    options = parser.parse_args()
    rows = [
        row
        for n in options.tokens
        for kind in KINDS
        for row in time_methods(features(n, kind, options.device), kind, options.keep_ratio, options.seconds)
    ]
    results = {"command": "python -m hf_zspa.bench.selection", **_machine(options.device), "rows": rows}
    table = markdown(rows)
    print(table)
    if options.output:
        options.output.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        options.output.with_suffix(".md").write_text(table + "\n", encoding="utf-8")


def features(n: int, kind: str, device: str = "cpu") -> tuple[Tensor, Tensor]:
    """Visual tokens `(n, 4096)` and prompt `(m, 4096)`, float32, of one of the `KINDS`."""
    generator = torch.Generator().manual_seed(n)
    if kind == "trained":
        visual, prompt = scene_tokens(n)
        turned = torch.linalg.qr(torch.randn(WIDTH, visual.shape[1], generator=generator)).Q.T
        return (visual @ turned).to(device), (prompt @ turned).to(device)
    visual, prompt = (torch.randn(length, WIDTH, generator=generator) for length in (n, PROMPT))
    if kind == "clustered":
        centres = torch.randn(max(1, n // 20), WIDTH, generator=generator)
        members = torch.randint(len(centres), (n,), generator=generator)
        visual = centres[members] + 0.3 * visual + torch.randn(WIDTH, generator=generator)
    return visual.to(device), prompt.to(device)


def scene_tokens(n: int) -> tuple[Tensor, Tensor]:
    """Visual tokens `(n, d)` of as many scenes as that takes, one after the other, and the tokens of one question."""
    model, processor = load_zspa(EVALUATED["embedded"])
    visual: list[Tensor] = []
    prompt = torch.empty(0)
    while sum(map(len, visual)) < n:
        scene, questions = scene_questions(len(visual))
        inputs = question_inputs(model, processor, Image.fromarray(scene.image), next(questions).text)
        (tokens,), (prompt,) = model.visual_and_prompt_tokens(**inputs)
        visual.append(tokens)
    return torch.cat(visual)[:n].float().cpu(), prompt.float().cpu()


def time_methods(pair: tuple[Tensor, Tensor], kind: str, keep_ratio: float, seconds: float) -> list[dict[str, Any]]:
    """A row per method: milliseconds (median and quartiles), and how many times faster than "divprune (published)"."""
    visual, prompt = pair
    budget = ZspaPruner(keep_ratio).budget(len(visual))

    def pruner(core_ratio: float) -> Callable[[], Any]:
        return lambda: ZspaPruner(keep_ratio, core_ratio)([visual], [prompt])

    methods = {
        "divprune (published)": lambda: published_divprune(visual, budget),
        "divprune": pruner(0.0),
        "zspa": pruner(0.2),
        "relevance": pruner(1.0),
    }
    for method in methods.values():
        _milliseconds(method, visual.device.type)
    times: dict[str, list[float]] = {name: [] for name in methods}
    end = time.monotonic() + seconds
    while len(times["zspa"]) < 3 or (time.monotonic() < end and len(times["zspa"]) < 200):
        for name, method in methods.items():
            times[name].append(_milliseconds(method, visual.device.type))
    rows = []
    for name, found in times.items():
        low, middle, high = statistics.quantiles(found, n=4)
        ratios = [published / own for published, own in zip(times["divprune (published)"], found)]
        rows.append({
            "tokens": len(visual), "kept": budget, "features": kind, "method": name, "runs": len(found),
            "milliseconds": round(middle, 3), "quartiles": [round(low, 3), round(high, 3)],
            "times_faster_than_published": round(statistics.median(ratios), 2),
        })  # fmt: skip
    return rows


def markdown(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| tokens | features | method | ms | quartiles | times faster than published |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        low, high = row["quartiles"]
        lines.append(
            f"| {row['tokens']} → {row['kept']} | {row['features']} | {row['method']} | {row['milliseconds']:.4g} | "
            f"{low:.4g} to {high:.4g} | {row['times_faster_than_published']:.1f} |"
        )
    return "\n".join(lines)


def _milliseconds(call: Callable[[], Any], device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    call()
    if device == "cuda":
        torch.cuda.synchronize()
    return 1e3 * (time.perf_counter() - start)


def _machine(device: str) -> dict[str, Any]:
    name = torch.cuda.get_device_name() if device == "cuda" else f"{platform.machine()}, {os.cpu_count()} cores"
    return {
        "created": date.today().isoformat(), "device": name, "threads": torch.get_num_threads(),
        "torch": torch.__version__, "width": WIDTH, "dtype": "float32",
    }  # fmt: skip


if __name__ == "__main__":
    main()
