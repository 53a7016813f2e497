"""What was measured, as Markdown and as a plot; the paper's figures stand in columns of their own."""

from pathlib import Path
from typing import Any

from ..evaluation.paper import paper_efficiency

_HEAD = (
    "method", "visual tokens", "vision tower", "selection", "first token", "per token", "end to end", "to limit",
    "to published", "cache MB", "peak tensors MB",
)  # fmt: skip


def markdown(results: dict[str, Any]) -> str:
    """The rows as a table. Times are medians in milliseconds, with quartiles for the whole answer; "to limit" and "to
    published" divide it by that of the limit and of the published DivPrune; MB are millions of bytes."""
    lines = [_line(_HEAD), "|" + "---|" * len(_HEAD)]
    for row in results["rows"]:
        sample = row["samples"][0]
        low, high = row["end_to_end"]["quartiles"]
        lines.append(
            _line([
                row["method"],
                f"{sample['visual_tokens']} → {sample['kept']}",
                _ms(row["vision"]),
                _ms(row["selection"]),
                _ms(row["first_token"]),
                _ms(row["per_token"]),
                f"{_ms(row['end_to_end'])} ({low:.4g} to {high:.4g})",
                _ratio(row, "limit"),
                _ratio(row, "divprune (published)"),
                f"{sample['cache_bytes'] / 1e6:.2f}",
                f"{sample['peak_memory']['tensors'] / 1e6:.1f}",
            ])
        )  # fmt: skip
    return "\n".join(lines)


def paper_table_3(results: dict[str, Any]) -> str:
    """The paper's Table 3 and what was measured here: mean time of an answer, and tokens and memory of its first three.

    Memory is the most that was allocated, on a GPU with the weights as in the paper; on a CPU what the tensors of an
    answer take beyond them.
    """
    latency, *memory = paper_efficiency()
    rows = results["rows"]
    lines = [
        _line(["", *(f"{row['method']}, here" for row in rows), *(f"{name}, paper" for name in _PAPER)]),
        "|" + "---|" * (len(rows) + len(_PAPER) + 1),
        _line(["average end to end (ms)", *(f"{row['end_to_end']['mean']:.4g}" for row in rows),
               *(latency[name] for name in _PAPER)]),
    ]  # fmt: skip
    for i in range(len(rows[0]["samples"])):
        samples = [row["samples"][i] for row in rows]
        tokens = [f"{sample['visual_tokens']} → {sample['kept']}" for sample in samples]
        lines.append(_line([f"sample {i + 1}: tokens", *tokens, "576", "576 → 58", "576 → 58"]))
        peaks = [sample["peak_memory"].get("total", sample["peak_memory"]["tensors"]) for sample in samples]
        own = [f"{peak / 1e6:.1f}" for peak in peaks]
        lines.append(_line([f"sample {i + 1}: peak memory (MB)", *own, *(memory[i][name] for name in _PAPER)]))
    return "\n".join(lines)


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
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    axes = figure.subplots()
    left = [0.0] * len(rows)
    for label, values in {"vision tower": vision, "selection": selection, "prefill": prefill, "decode": decode}.items():
        axes.barh(names, values, left=left, label=label)
        left = [a + b for a, b in zip(left, values)]
    axes.set_xlabel("milliseconds")
    axes.set_title(f"{results['model']}, {results['dtype']}, {results['device']}")
    axes.legend(frameon=False)
    figure.savefig(path, dpi=120)
    return True


def _ms(spread: dict[str, Any] | None) -> str:
    return f"{spread['median']:.4g}" if spread else "–"


def _ratio(row: dict[str, Any], yardstick: str) -> str:
    return f"{row['to'][yardstick]['end_to_end']:.3f}" if yardstick in row["to"] else "–"


def _line(cells) -> str:
    return "| " + " | ".join(cells) + " |"
