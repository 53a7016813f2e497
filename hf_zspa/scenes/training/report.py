"""Summaries of which questions were answered right, and their Markdown tables."""

import math
from collections.abc import Iterable
from typing import Any

from torch import Tensor

from ...output import markdown_table
from ..domains import DOMAINS

_Z = 1.96  # 95 %


def summary(kinds: list[str], right: Tensor) -> dict[str, Any]:
    """Per cent right of each kind and their mean, each with a 95 % interval; right (questions,) bool."""
    scores: dict[str, dict[str, Any]] = {}
    for kind in _in_order(kinds):
        answers = [bool(r) for k, r in zip(kinds, right, strict=True) if k == kind]
        low, high = wilson_interval(sum(answers), len(answers))
        share = 100 * sum(answers) / len(answers)
        scores[kind] = {"n": len(answers), "right": share, "interval": [low, high]}
    shares = [score["right"] / 100 for score in scores.values()]
    variance = sum(p * (1 - p) / score["n"] for p, score in zip(shares, scores.values(), strict=True))
    mean, margin = 100 * sum(shares) / len(shares), 100 * _Z * math.sqrt(variance) / len(shares)
    return {"kinds": scores, "average": mean, "average_margin": margin}


def _in_order(kinds: Iterable[str]) -> list[str]:
    """Each of the kinds once, in the order in which the domains name them."""
    named = dict.fromkeys(kind for domain in DOMAINS.values() for kind in domain.kinds)
    return sorted(set(kinds), key=list(named).index)


def wilson_interval(right: int, n: int) -> tuple[float, float]:
    """95 % binomial interval (Wilson) in per cent."""
    p = right / n
    centre = (p + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z * math.sqrt(p * (1 - p) / n + _Z**2 / (4 * n**2)) / (1 + _Z**2 / n)
    return 100 * (centre - half), 100 * (centre + half)


def markdown(results: dict[str, Any]) -> str:
    """Three tables: per kind without pruning, averages by method and ratio, and per kind at each ratio."""
    rows, setting = results["rows"], results["setting"]
    note = ", ".join(f"{key} {value}" for key, value in setting.items())
    parts = [f"Measured on: {note}. {results['per_kind']} questions of each kind.\n"]
    parts.append(_baseline_table([row for row in rows if "keep_ratio" not in row]))
    pruned = [row for row in rows if "keep_ratio" in row]
    parts.append(_average_table(pruned))
    for ratio in dict.fromkeys(row["keep_ratio"] for row in pruned):
        parts.append(_kind_table([row for row in pruned if row["keep_ratio"] == ratio]))
    return "\n".join(parts)


def _baseline_table(rows: list[dict]) -> str:
    lines = []
    for row in rows:
        cells = [_with_interval(row["kinds"].get(kind)) for kind in rows[0]["kinds"]]
        lines.append([row["method"], row["questions"], *cells, _average(row)])
    return markdown_table(["tokens", "questions", *rows[0]["kinds"], "average"], lines) + "\n"


def _average_table(rows: list[dict]) -> str:
    methods = list(dict.fromkeys(row["method"] for row in rows))
    lines = []
    for ratio in dict.fromkeys(row["keep_ratio"] for row in rows):
        found = {row["method"]: row for row in rows if row["keep_ratio"] == ratio}
        tokens = next(iter(found.values()))["tokens"]
        lines.append([f"{ratio} ({tokens:.4g})", *(_average(found[method]) for method in methods)])
    return markdown_table(["keep (tokens)", *methods], lines) + "\n"


def _kind_table(rows: list[dict]) -> str:
    lines = [[row["method"], *(f"{row['kinds'][kind]['right']:.1f}" for kind in rows[0]["kinds"])] for row in rows]
    return markdown_table([f"keep {rows[0]['keep_ratio']}", *rows[0]["kinds"]], lines) + "\n"


def _with_interval(score: dict | None) -> str:
    if score is None:
        return "–"
    low, high = score["interval"]
    return f"{score['right']:.1f} ({low:.1f}–{high:.1f})"


def _average(row: dict) -> str:
    return f"{row['average']:.1f} ± {row['average_margin']:.1f}"
