"""Writes the tables between `<!-- table … -->` marks of the pages that show results, and draws their figures, from the
files beside this script.

The measured ones come from `*.json`, written by `measure.sh`, the paper's from `hf_zspa/evaluation/paper`:

    python docs/results/page.py
"""

import csv
import json
import re
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

from methods_report import MODELS

from hf_zspa.evaluation.plots import plot_core_ratio, plot_keep_ratio
from hf_zspa.evaluation.statistics import Difference
from hf_zspa.output import markdown_table
from hf_zspa.pruners.registry import METHODS

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PAGES = [ROOT / "README.md", ROOT / "docs" / "results.md", HERE / "embedded.md", HERE / "paper.md"]
PAPER = ROOT / "hf_zspa" / "evaluation" / "paper"
ORDER = (
    "original", "random", "resized", "tome", "par", "relevance", "divprune", "zspa", "weighted", "dpp",
    "conditional_dpp", "mmtok",
)  # fmt: skip
FIGURES = {"keep-ratio": ("methods", plot_keep_ratio), "core-ratio": ("table-1", plot_core_ratio)}
MARKED = re.compile(r"(<!-- table (\S+)(?: (\S+))? -->\n).*?(\n<!-- end -->)", re.DOTALL)


def main() -> None:
    for page in PAGES:
        page.write_text(filled(page.read_text(encoding="utf-8")), encoding="utf-8")
    for model, (name, (table, plot)) in product(MODELS, FIGURES.items()):
        results = json.loads((HERE / f"{model}-{table}.json").read_text(encoding="utf-8"))
        plot(results["rows"], ROOT / "docs" / "images" / f"{model}-{name}.png")


def filled(page: str) -> str:
    """The page with every marked table made anew."""

    def fill(found: re.Match[str]) -> str:
        start, name, keep, end = found.groups()
        if keep is None:
            return start + published(name) + end
        ratios = [float(ratio) for ratio in keep.split(",")]
        tables: dict[str, Callable[[list[float]], str]] = {
            "study": study,
            "selections": partial(study, neighbours=()),
            "weighted": weighted,
        }
        made = tables.get(name)
        return start + (made(ratios) if made else measured(name, *ratios)) + end

    return MARKED.sub(fill, page)


def measured(checkpoint: str, keep_ratio: float) -> str:
    """Methods by kinds of question at a keep ratio, mean pooling, with the paired difference of the averages."""
    rows = [row for row in _rows(checkpoint) if row["keep_ratio"] in (1.0, keep_ratio)]
    kinds = list(dict.fromkeys(_kind(row) for row in rows))
    settings = sorted({_setting(row) for row in rows}, key=lambda it: (ORDER.index(it[0]), it[1]))
    lines = []
    for method, core in settings:
        mine = {_kind(row): row for row in rows if _setting(row) == (method, core)}
        scores = [f"{mine[kind]['value']:.1f}" for kind in kinds]
        low, high = mine["average"]["interval"]
        lines.append(
            [_label(method, core), *scores[:-1], f"{scores[-1]} ± {(high - low) / 2:.1f}", _difference(mine["average"])]
        )
    average = next(row for row in rows if row["method"] == "divprune" and _kind(row) == "average")
    kept = (
        f"Keep {keep_ratio:g}: {average['kept_tokens']:.0f} of {average['visual_tokens']:.0f} visual tokens on average."
    )
    return f"{kept}\n\n{markdown_table(['method', *kinds, 'average minus divprune'], lines)}"


def study(keep_ratios: list[float], neighbours: tuple[str, ...] = ("resized", "tome", "par")) -> str:
    """Methods at their defaults on all three models, as the study of methods judged them, and the paper's neighbours
    that it has not, which `hf-zspa eval` asked the same questions."""
    ours = ("zspa, core 1.0", "zspa, core 0.0", "zspa, core 0.2")
    names = ("random", *ours, "weighted", "DPP", "CDPruner's formula", "MMTok's formula")
    lines = []
    for model, label in MODELS.items():
        judged = {(row["keep_ratio"], row["name"]): row["average"] for row in _judged() if row["model"] == model}
        asked = {(row["keep_ratio"], row["method"]): row["value"] for row in _rows(model) if _kind(row) == "average"}
        for keep in keep_ratios:
            scores = [judged[1.0, "all tokens"], *(judged[keep, name] for name in names)]
            scores[2:2] = [asked[keep, name] for name in neighbours]
            lines.append([label, f"{keep:g}", *(f"{score:.1f}" for score in scores)])
    heads = (
        "random",
        *(METHODS[name].label for name in neighbours),
        "relevance (core 1)",
        "divprune (core 0)",
        "zspa, the paper's default",
        *names[4:],
    )
    return markdown_table(["model", "kept", "all tokens", *heads], lines)


def weighted(keep_ratios: list[float]) -> str:
    """Paired differences of "weighted" at its defaults."""
    rows = [row for row in _judged() if row["name"] == "weighted"]
    rivals = ("the default", "the best core ratio", "CDPruner's formula", "MMTok's formula")
    lines = [
        [
            label,
            f"{keep:g}",
            row["best_core"].removeprefix("zspa, core "),
            *(str(Difference(*row["minus"][name])) for name in rivals),
        ]
        for model, label in MODELS.items()
        for keep in keep_ratios
        for row in rows
        if (row["model"], row["keep_ratio"]) == (model, keep)
    ]
    return markdown_table(["model", "kept", "best core", *(f"minus {name}" for name in rivals)], lines)


def _judged() -> list[dict[str, Any]]:
    return json.loads((HERE / "methods.json").read_text(encoding="utf-8"))["judged"]


def published(table: str) -> str:
    """A table of the paper as it stands in its file."""
    text = (PAPER / f"{table}.csv").read_text(encoding="utf-8")
    header, *rows = csv.reader(line for line in text.splitlines() if not line.startswith("#"))
    return markdown_table(header, rows)


def _rows(checkpoint: str) -> list[dict[str, Any]]:
    rows = {}
    for table in ("table-4", "table-1", "methods"):
        for row in json.loads((HERE / f"{checkpoint}-{table}.json").read_text(encoding="utf-8"))["rows"]:
            if row["pooling"] in (None, "mean"):
                rows[row["task"], row["method"], row["keep_ratio"], row["core_ratio"]] = row
    return list(rows.values())


def _setting(row: dict[str, Any]) -> tuple[str, float]:
    return row["method"], row["core_ratio"] if row["method"] == "zspa" else 0.0


def _label(method: str, core_ratio: float) -> str:
    known = METHODS[method]
    if known.core_ratio is not None:
        return f"{method} (core {known.core_ratio:g})"
    return f"{known.label}, core {core_ratio:g}" if "core_ratio" in known.reads else known.label


def _kind(row: dict[str, Any]) -> str:
    return re.split("[_ ]", row["task"])[-1]


def _difference(row: dict[str, Any]) -> str:
    difference = row["minus_divprune"]
    if difference is None or row["method"] == "original":
        return "–"
    low, high = difference["low"], difference["high"]
    star = "\\*" if low > 0 or high < 0 else ""
    return f"{difference['value']:+.1f}{star} ({low:+.1f} to {high:+.1f})"


if __name__ == "__main__":
    main()
