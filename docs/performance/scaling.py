"""How the cost grows with what is asked: the selection by itself, and whole answers, along one axis at a time.

    python docs/performance/scaling.py --output docs/performance/scaling-cpu

On a GPU `--shape qwen2.5-vl-7b` takes the place of the small one. Each axis gets the power its time grows with, fitted
to the logarithms by least squares, with its standard error: 1 is in proportion, 2 with the square, 0 not at all.
"""

import argparse
import json
import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from hf_zspa.bench import shapes
from hf_zspa.bench.clock import seconds
from hf_zspa.bench.machine import machine
from hf_zspa.bench.measure import InterleavedBenchmark, Settings
from hf_zspa.bench.report import ratio
from hf_zspa.bench.summary import in_turn, paired_ratio, spread
from hf_zspa.loading import usable_device
from hf_zspa.output import markdown_table, replace_file
from hf_zspa.pruners import registry

METHODS = ("original", "zspa", "limit")
PUBLISHED = registry.PUBLISHED_DIVPRUNE
ROUNDS = 6  # as many as there are orders of the methods
WIDTH, PROMPT = 4096, 40
_ANSWER_COLUMNS = (
    "tokens kept", "first token, all (ms)", "first token, zspa (ms)", "end to end, all (ms)", "end to end, zspa (ms)",
    "to limit", "selection (ms)", "cache, all (MB)", "cache, zspa (MB)",
)  # fmt: skip


@dataclass(frozen=True)
class Selection:
    """Random tokens to select from: `images` images of `n` tokens of width `d`."""

    n: int = 2880
    d: int = WIDTH
    images: int = 1
    keep_ratio: float = 0.1


@dataclass(frozen=True)
class Answer:
    """A prompt to answer."""

    prompt: shapes.Prompt = field(default_factory=lambda: shapes.Prompt(patches=(48, 48)))
    settings: Settings = field(default_factory=Settings)


def selections() -> dict[str, dict[float, Selection]]:
    """Axis → its values and what they stand for."""
    at = Selection()
    return {
        "visual tokens": {n: replace(at, n=n) for n in (144, 576, 1296, 2880, 4096, 8192, 16384)},
        "hidden size": {d: replace(at, d=d) for d in (1024, 2048, 4096, 8192)},
        "images": {b: replace(at, n=576, images=b) for b in (1, 2, 4, 8)},
        "keep ratio": {r: replace(at, keep_ratio=r) for r in (0.05, 0.1, 0.25, 0.5)},
    }


def answers() -> dict[str, dict[float, Answer]]:
    at = Answer()

    def asked(**changes: Any) -> Answer:
        return replace(at, prompt=replace(at.prompt, **changes))

    return {
        "visual tokens": {(side // 2) ** 2: asked(patches=(side, side)) for side in (24, 32, 48, 72)},
        "images": {count: asked(patches=(32, 32), images=count) for count in (1, 2, 4)},
        "frames of a video": {count: asked(patches=(32, 32), frames=count) for count in (4, 8, 16)},
        "batch": {count: asked(patches=(32, 32), batch=count) for count in (1, 2, 4)},
        "keep ratio": {r: replace(at, settings=replace(at.settings, keep_ratio=r)) for r in (0.05, 0.1, 0.25, 0.5)},
        "new tokens": {t: replace(at, settings=replace(at.settings, new_tokens=t)) for t in (2, 16, 64)},
    }


def time_selection(case: Selection, device: torch.device, rounds: int) -> dict[str, Any]:
    """Milliseconds of "zspa" and of "divprune (published)", which keeps an n × n matrix; None where that is too big."""
    generator = torch.Generator().manual_seed(case.n)
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    images = [torch.randn(case.n, case.d, generator=generator).to(device, dtype) for _ in range(case.images)]
    prompts = [torch.randn(PROMPT, case.d, generator=generator).to(device, dtype)] * case.images
    pruners: dict[str, Any] = {"zspa": registry.METHODS["zspa"].make(case.keep_ratio)}
    if case.n <= 8192:
        pruners[PUBLISHED.name] = PUBLISHED.make(case.keep_ratio)
    times: dict[str, list[float]] = {name: [] for name in pruners}
    for turn in range(rounds + 1):
        for name in in_turn(pruners, turn):
            taken = seconds(partial(pruners[name], images, prompts), device)
            times[name] += [taken] if turn else []  # the first is to warm up
    found = {name: spread(taken) for name, taken in times.items()}
    if PUBLISHED.name in found:
        found["zspa"]["times_faster"] = paired_ratio(times[PUBLISHED.name], times["zspa"])
    return found


def time_answer(case: Answer, model, shape: str, rounds: int) -> dict[str, Any]:
    """Milliseconds of whole answers, first tokens and the vision tower by method; tokens and bytes of the cache."""
    benchmark = InterleavedBenchmark(model, case.settings, METHODS)
    inputs = shapes.inputs(shape, model, case.prompt)
    for _ in range(rounds):
        benchmark.run(inputs)
    found = {}
    for row in benchmark.rows():
        names = ("vision", "selection", "first_token", "per_token", "end_to_end")
        found[row["method"]] = {name: row[name] for name in names} | row["samples"][0] | {"to": row["to"]}
    return found


def power(points: dict[float, float]) -> tuple[float, float]:
    """The exponent b of the power law `a · x^b` through the points, by least squares of the logarithms, and its
    standard error: how far the points are from any power law. Two points are always on one."""
    xs, ys = [math.log(x) for x in points], [math.log(y) for y in points.values()]
    if len(xs) == 2:
        return (ys[1] - ys[0]) / (xs[1] - xs[0]), 0.0
    slope, start = statistics.linear_regression(xs, ys)
    off = sum((y - start - slope * x) ** 2 for x, y in zip(xs, ys)) / (len(xs) - 2)
    return slope, math.sqrt(off / (statistics.variance(xs) * (len(xs) - 1)))


def _fit(points: dict[float, float]) -> str:
    slope, error = power(points)
    return f"{slope:.2f}" if len(points) == 2 else f"{slope:.2f} ± {error:.2f}"


def axes() -> list[str]:
    """The names of all axes, such as "selection, images"."""
    return [f"{what}, {axis}" for what, found in (("selection", selections()), ("answer", answers())) for axis in found]


def measure(
    shape: str, device: torch.device, rounds: int, say: Callable[[str], None], only: Sequence[str] = ()
) -> dict[str, Any]:
    """The axes named in `only`, or all; `say` hears what is done."""
    results: dict[str, Any] = {"selection": {}, "answer": {}}
    for axis, cases in selections().items():
        if only and f"selection, {axis}" not in only:
            continue
        results["selection"][axis] = {}
        for value, case in cases.items():
            results["selection"][axis][value] = time_selection(case, device, max(rounds, 5))
            say(f"selection, {axis} {value}")
    wanted = {axis: asked for axis, asked in answers().items() if not only or f"answer, {axis}" in only}
    if not wanted:
        return results
    model = shapes.build(shape, device, torch.bfloat16 if device.type == "cuda" else torch.float32)
    for axis, asked in wanted.items():
        results["answer"][axis] = {}
        for value, question in asked.items():
            results["answer"][axis][value] = time_answer(question, model, shape, rounds)
            say(f"answer, {axis} {value}")
    return results


def merged(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """The results of `new`, and those of `old` for the other axes, in the order of all."""
    found = dict(new)
    for what, all_axes in (("selection", selections()), ("answer", answers())):
        given = {axis: {json.loads(x): y for x, y in points.items()} for axis, points in old[what].items()} | new[what]
        found[what] = {axis: given[axis] for axis in all_axes if axis in given}
    return found


def markdown(results: dict[str, Any]) -> str:
    return "\n\n".join([*_selection_tables(results["selection"]), *_answer_tables(results["answer"])])


def _selection_tables(axes: dict[str, dict[float, Any]]) -> Iterator[str]:
    for axis, points in axes.items():
        lines = []
        for value, found in points.items():
            own, other = found["zspa"], found.get(PUBLISHED.name)
            more = [f"{other['median']:.4g}", f"{own['times_faster']['median']:.1f}"] if other else ["–", "–"]
            lines.append([str(value), f"{own['median']:.4g}", *more])
        fits = [
            _fit({x: f[name]["median"] for x, f in points.items() if name in f}) for name in ("zspa", PUBLISHED.name)
        ]
        header = (axis, "zspa (ms)", f"{PUBLISHED.name} (ms)", "times faster")
        yield markdown_table(header, [*lines, ["grows with the power", *fits, ""]])


def _answer_tables(axes: dict[str, dict[float, Any]]) -> Iterator[str]:
    for axis, points in axes.items():
        lines = []
        for value, found in points.items():
            own, whole = found["zspa"], found["original"]
            caches = [f"{row['cache_bytes'] / 1e6:.2f}" for row in (whole, own)]
            times = [row[name]["median"] for name in ("first_token", "end_to_end") for row in (whole, own)]
            to_limit, selection = ratio(own["to"]["limit"]["end_to_end"]), f"{own['selection']['median']:.4g}"
            kept = f"{own['visual_tokens']} → {own['kept']}"
            lines.append([str(value), kept, *(f"{time:.4g}" for time in times), to_limit, selection, *caches])
        fits = [
            _fit({x: f[method][name]["median"] for x, f in points.items()})
            for name in ("first_token", "end_to_end")
            for method in ("original", "zspa")
        ]
        yield markdown_table((axis, *_ANSWER_COLUMNS), [*lines, ["grows with the power", "", *fits, *[""] * 4]])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", default="qwen2.5-vl-7b-small", help="a Qwen2.5-VL shape of hf-zspa bench")
    parser.add_argument("--device", help="such as cuda:0; by default the GPU if there is one")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="answers of each method at each point")
    parser.add_argument(
        "--axes", nargs="+", choices=axes(), default=[], metavar="AXIS",
        help="only these, in place of what the file has of them: " + "; ".join(axes()),
    )  # fmt: skip
    parser.add_argument("--output", type=Path, required=True, help="JSON and Markdown files, without their suffix")
    options = parser.parse_args()
    try:
        device = usable_device(options.device, "--device")
        shapes.shape(options.shape)
        if options.rounds < 1:
            raise ValueError(f"--rounds is {options.rounds}, but must be 1 or above")
    except ValueError as error:
        parser.error(str(error))
    about = {"command": f"python docs/performance/scaling.py --shape {options.shape}", **machine(device)}
    file = options.output.with_suffix(".json")
    file.parent.mkdir(parents=True, exist_ok=True)
    old = json.loads(file.read_text(encoding="utf-8")) if options.axes and file.exists() else {}
    for name in ("command", "device", "torch", "cuda", "triton", "transformers") if old else ():
        if old.get(name) != about[name]:
            parser.error(f"{file} has {name} {old.get(name)!r}, not {about[name]!r}: measure into a new file")
    if old and old["created"] != about["created"]:
        about["created"] = f"{old['created']}, and {', '.join(options.axes)} on {about['created']}"
    measured = measure(options.shape, device, options.rounds, lambda what: print(what, flush=True), options.axes)
    results = about | measured
    if old:
        results = merged(old, results)
    replace_file(file, (json.dumps(results, indent=1) + "\n").encode())
    replace_file(options.output.with_suffix(".md"), (markdown(results) + "\n").encode())


if __name__ == "__main__":
    main()
