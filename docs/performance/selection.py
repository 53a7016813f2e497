"""Times the selection alone, all methods in one run, interleaved and warm.

    python docs/performance/selection.py --output docs/performance/selection-cpu.json
    python docs/performance/selection.py --of-zspa --output docs/performance/selection-methods-cpu.json

The second times the other methods that travel in a checkpoint, against zspa.

How much work the loop on a CPU can save depends on the values, so there are three kinds of features: `random`;
`clustered`, in which the tokens of a cluster stop being candidates together; and `trained`, what the shipped LLaVA
makes of many scenes, turned into the width of a large model, which leaves every cosine as it is.
"""

import argparse
import json
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from hf_zspa.bench.clock import seconds
from hf_zspa.bench.machine import machine
from hf_zspa.bench.report import FEW
from hf_zspa.bench.summary import in_turn, paired_ratio, spread
from hf_zspa.loading import load_zspa, question_inputs, usable_device
from hf_zspa.output import markdown_table, replace_file
from hf_zspa.pruners.registry import METHODS, PUBLISHED_DIVPRUNE
from hf_zspa.remote_code.zspa_checks import check_ratio
from hf_zspa.scenes.heldout import scene_questions

WIDTH = 4096
PROMPT = 40
KINDS = ("random", "clustered", "trained")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, nargs="+", default=[576, 2880, 8192], help="numbers of visual tokens")
    parser.add_argument("--keep-ratio", type=float, default=0.1, help="share of the tokens kept, (0, 1]")
    parser.add_argument("--seconds", type=float, default=20, help="about how long each size may take")
    parser.add_argument("--of-zspa", action="store_true", help="the other methods that travel, against zspa")
    parser.add_argument("--device", help="such as cuda:0; by default the GPU if there is one")
    parser.add_argument("--output", type=Path, help="JSON file; beside it a Markdown table")
    options = parser.parse_args()
    try:
        device = usable_device(options.device, "--device")
        check_ratio("--keep-ratio", options.keep_ratio, zero_allowed=False)
        if min(options.tokens) < 1:
            raise ValueError(f"--tokens has {min(options.tokens)}, but must be 1 or above")
    except ValueError as error:
        parser.error(str(error))
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
    rows = [
        row
        for n in options.tokens
        for kind in KINDS
        for row in time_methods(features(n, kind, device), kind, options.keep_ratio, options.seconds, options.of_zspa)
    ]
    command = "python docs/performance/selection.py" + " --of-zspa" * options.of_zspa
    about = {"command": command, **machine(device), "width": WIDTH, "dtype": "float32"}
    table = markdown(rows)
    print(table)
    if options.output:
        replace_file(options.output, (json.dumps(about | {"rows": rows}, indent=1) + "\n").encode())
        replace_file(options.output.with_suffix(".md"), (table + "\n").encode())


def features(n: int, kind: str, device: str | torch.device = "cpu") -> tuple[Tensor, Tensor]:
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
    model, processor = load_zspa("embedded")
    visual: list[Tensor] = []
    prompt = torch.empty(0)
    while sum(map(len, visual)) < n:
        scene, questions = scene_questions(len(visual))
        inputs = question_inputs(model, processor, Image.fromarray(scene.image), next(questions).text)
        (tokens,), (prompt,) = model.visual_and_prompt_tokens(**inputs)
        visual.append(tokens)
    return torch.cat(visual)[:n].float().cpu(), prompt.float().cpu()


def time_methods(
    pair: tuple[Tensor, Tensor], kind: str, keep_ratio: float, allowed: float, of_zspa: bool = False
) -> list[dict[str, Any]]:
    """A row per method: milliseconds, and how many times faster than "divprune (published)", or, of the methods that
    weigh, what part of the time of zspa; for about `allowed` seconds."""
    visual, prompt = pair
    pruners = {name: METHODS[name].make(keep_ratio) for name in ("divprune", "zspa", "relevance")}
    pruners = {PUBLISHED_DIVPRUNE.name: PUBLISHED_DIVPRUNE.make(keep_ratio)} | pruners
    if of_zspa:
        pruners = {"zspa": pruners["zspa"], **{name: METHODS[name].make(keep_ratio) for name in ("weighted", "dpp")}}
        pruners["weighted, pooling none"] = METHODS["weighted"].make(keep_ratio, pooling="none")
    methods = {name: partial(pruner, [visual], [prompt]) for name, pruner in pruners.items()}
    for method in methods.values():
        seconds(method, visual.device)
    times: dict[str, list[float]] = {name: [] for name in methods}
    end, turn = time.monotonic() + allowed, 0
    while turn < FEW or (time.monotonic() < end and turn < 200):
        for name in in_turn(methods, turn):
            times[name].append(seconds(methods[name], visual.device))
        turn += 1
    first, compared = ("zspa", "of_zspa") if of_zspa else (PUBLISHED_DIVPRUNE.name, "times_faster_than_published")
    ratio = (lambda found: paired_ratio(found, times[first])) if of_zspa else partial(paired_ratio, times[first])
    return [
        {
            "tokens": len(visual), "kept": pruners[name].budget(len(visual)), "features": kind, "method": name,
            "runs": turn, "milliseconds": spread(found),
            compared: ratio(found),
        }
        for name, found in times.items()
    ]  # fmt: skip


def markdown(rows: list[dict[str, Any]]) -> str:
    """Medians in milliseconds; how many times faster than the published algorithm in the same rounds, with the
    interval that holds the median in 95 of 100 cases."""
    lines = []
    for row in rows:
        low, high = row["milliseconds"]["quartiles"]
        compared = row.get("of_zspa") or row["times_faster_than_published"]
        interval = compared["interval"]
        lines.append([
            f"{row['tokens']} → {row['kept']}",
            row["features"],
            row["method"],
            f"{row['milliseconds']['median']:.4g}",
            f"{low:.4g} to {high:.4g}",
            f"{compared['median']:.3g}",
            f"{interval[0]:.3g} to {interval[1]:.3g}" if interval else "–",
        ])  # fmt: skip
    meaning = "of zspa's time" if "of_zspa" in rows[0] else "times faster than published"
    header = ("tokens", "features", "method", "ms", "quartiles", meaning, "interval")
    return markdown_table(header, lines)


if __name__ == "__main__":
    main()
