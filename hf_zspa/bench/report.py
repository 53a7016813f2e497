"""What was measured, as Markdown and as a plot; the paper's figures stand in columns of their own."""

from pathlib import Path
from typing import Any

from ..evaluation.paper import paper_efficiency
from ..output import markdown_table, save_plot
from ..pruners.registry import PUBLISHED_DIVPRUNE

FEW = 6  # answers below which a ratio has no interval
_TIMES = ("method", "vision tower", "selection", "first token", "per token", "end to end", "quartiles")
_SIZES = ("method", "visual tokens", "cache MB", "peak tensors MB", "with weights MB")


def markdown(results: dict[str, Any]) -> str:
    """What was measured, as a heading and three tables: times, ratios and sizes."""
    parts = [heading(results), _times(results["rows"]), _ratios(results["rows"]), _sizes(results["rows"])]
    return "\n\n".join(part for part in parts if part)


def heading(results: dict[str, Any]) -> str:
    """What ran where, and how many answers the tables are made of."""
    answers = results["rows"][0]["answers"]
    kind = ", random weights" if results["weights"] == "random" else ""
    few = "" if answers >= FEW else f" **Too few for intervals: give --seconds more time, for {FEW} or more.**"
    kept = f"keep ratio {results['settings']['keep_ratio']:g}, core ratio {results['settings']['core_ratio']:g}"
    return (
        f"{results['model']}{kind}, {results['dtype']}, attention {results['attention']}, {kept}, "
        f"{results['settings']['new_tokens']} new tokens. {results['device']}, torch {results['torch']}, transformers "
        f"{results['transformers']}, {results['created']}. {answers} answers of each method, times in ms.{few}"
    )


def _times(rows: list[dict[str, Any]]) -> str:
    """Medians in milliseconds; quartiles are those of the whole answer."""
    lines = []
    for row in rows:
        low, high = row["end_to_end"]["quartiles"]
        times = [_ms(row[name]) for name in ("vision", "selection", "first_token", "per_token", "end_to_end")]
        lines.append([row["method"], *times, f"{low:.4g} to {high:.4g}"])
    return markdown_table(_TIMES, lines)


def _ratios(rows: list[dict[str, Any]]) -> str:
    """Times divided by those of the other methods in the same rounds: medians, and intervals that hold them in 95 of
    100 cases. Nothing where there is nothing to compare with."""
    baselines = list(rows[0]["to"])
    head = [
        f"{what} to {PUBLISHED_DIVPRUNE.label if name == PUBLISHED_DIVPRUNE.name else name}"
        for name in baselines
        for what in ("first token", "end to end")
    ]
    if not head:
        return ""
    lines = []
    for row in rows:
        cells = [
            "1" if name == row["method"] else ratio(row["to"][name][what])
            for name in baselines
            for what in ("first_token", "end_to_end")
        ]
        lines.append([row["method"], *cells])
    return markdown_table(["method", *head], lines)


def _sizes(rows: list[dict[str, Any]]) -> str:
    """Of the first question; MB are millions of bytes."""
    lines = []
    for row in rows:
        sample = row["samples"][0]
        peak = sample["peak_memory"]
        memory = [f"{peak[part] / 1e6:.1f}" for part in ("tensors", "total")]
        tokens, cache = f"{sample['visual_tokens']} → {sample['kept']}", f"{sample['cache_bytes'] / 1e6:.2f}"
        lines.append([row["method"], tokens, cache, *memory])
    return markdown_table(_SIZES, lines)


def ratio(found: dict[str, Any]) -> str:
    """A paired ratio with its interval, if it has one."""
    if found["interval"] is None:
        return f"{found['median']:.3f}"
    low, high = found["interval"]
    return f"{found['median']:.3f} ({low:.3f} to {high:.3f})"


def paper_table_3(results: dict[str, Any]) -> str:
    """The paper's Table 3 and what was measured here: mean time of an answer, every question counting once, and tokens
    and peak memory of the first three: the weights, and what an answer takes beside them."""
    latency, *memory = paper_efficiency()
    rows = results["rows"]
    header = ["", *(f"{row['method']}, here" for row in rows), *(f"{name}, paper" for name in _PAPER)]
    averages = [f"{row['average']:.4g}" for row in rows]
    lines = [["average end to end (ms)", *averages, *(latency[name] for name in _PAPER)]]
    for i in range(len(rows[0]["samples"])):
        samples = [row["samples"][i] for row in rows]
        tokens = [f"{sample['visual_tokens']} → {sample['kept']}" for sample in samples]
        lines.append([f"sample {i + 1}: tokens", *tokens, "576", "576 → 58", "576 → 58"])
        own = [f"{sample['peak_memory']['total'] / 1e6:.1f}" for sample in samples]
        lines.append([f"sample {i + 1}: peak memory (MB)", *own, *(memory[i][name] for name in _PAPER)])
    about = "The paper's columns: LLaVA-1.5-7B on a GPU, 900 questions of MMMU. Those marked here: "
    return f"{about}{heading(results)}\n\n{markdown_table(header, lines)}"


_PAPER = ("original", "divprune", "zspa")


def plot(results: dict[str, Any], path: Path) -> bool:
    """Stacked times per method; False, and no file, without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return False
    rows = results["rows"][::-1]
    names = [row["method"] for row in rows]
    vision = [row["vision"]["median"] for row in rows]
    selection = [row["selection"]["median"] if row["selection"] else 0.0 for row in rows]
    first = [row["first_token"]["median"] for row in rows]
    prefill = [max(0.0, f - v - s) for f, v, s in zip(first, vision, selection)]
    decode = [row["end_to_end"]["median"] - row["first_token"]["median"] for row in rows]
    figure = Figure(figsize=(8, 3.2), dpi=120, layout="constrained")
    axes = figure.subplots()
    left = [0.0] * len(rows)
    for label, values in {"vision tower": vision, "selection": selection, "prefill": prefill, "decode": decode}.items():
        axes.barh(names, values, left=left, label=label)
        left = [a + b for a, b in zip(left, values)]
    axes.set_xlabel("milliseconds")
    axes.set_title(f"{results['model']}, {results['dtype']}, {results['device']}")
    figure.legend(loc="outside lower center", ncols=4, frameon=False)
    save_plot(figure, path)
    return True


def _ms(spread: dict[str, Any] | None) -> str:
    return f"{spread['median']:.4g}" if spread else "–"
