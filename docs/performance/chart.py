"""Draws docs/images/savings.png, the chart at the top of docs/performance.md, from the files beside this script:

python docs/performance/chart.py
"""

import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PICTURE = HERE.parent / "images" / "savings.png"
LABELS = {"original": "all tokens", "zspa": "pruned", "limit": "limit: selection\ncosts nothing"}
PARTS = {
    "vision tower": "#9aa5b1",
    "selection": "#d1495b",
    "reading the prompt": "#3d6fb4",
    "15 more tokens": "#a9c4e6",
}


def main() -> None:
    from matplotlib.figure import Figure

    answer = json.loads((HERE / "llava-1.5-7b-small" / "results.json").read_text(encoding="utf-8"))
    scaling = json.loads((HERE / "scaling-cpu.json").read_text(encoding="utf-8"))
    figure = Figure(figsize=(10, 3.6), dpi=150, layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[3, 2])
    _parts(left, answer)
    _growth(right, scaling)
    versions = f"torch {answer['torch']}, transformers {answer['transformers']}, {answer['dtype']}, {answer['created']}"
    figure.supxlabel(
        f"{answer['device']}, {versions}; two layers in vision tower and language model", fontsize=8, color="0.35"
    )
    figure.savefig(PICTURE, metadata={"Software": None})


def parts(row: dict[str, Any]) -> list[float]:
    """Where the time of one method's answer goes, in seconds, in the order of `PARTS`."""
    vision, first, end = (row[name]["median"] / 1000 for name in ("vision", "first_token", "end_to_end"))
    selection = row["selection"]["median"] / 1000 if row["selection"] else 0.0
    return [vision, selection, first - vision - selection, end - first]


def _parts(axes, results: dict[str, Any]) -> None:
    rows = {row["method"]: row for row in results["rows"]}
    left = [0.0] * len(LABELS)
    for part, (label, colour) in enumerate(PARTS.items()):
        widths = [parts(rows[method])[part] for method in LABELS]
        axes.barh(list(LABELS.values()), widths, left=left, color=colour, label=label, height=0.6)
        left = [start + width for start, width in zip(left, widths)]
    axes.bar_label(axes.containers[-1], [f"{end:.2f} s" for end in left], padding=4, fontsize=9)
    sample = rows["zspa"]["samples"][0]
    axes.set_title(f"LLaVA-1.5-7B's widths, {sample['visual_tokens']} → {sample['kept']} visual tokens", fontsize=10)
    axes.set(xlabel="seconds for an answer of 16 tokens", xlim=(0, max(left) * 1.14))
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)
    axes.figure.legend(*axes.get_legend_handles_labels(), loc="outside upper left", ncols=4, frameon=False, fontsize=8)


def _growth(axes, results: dict[str, Any]) -> None:
    points = results["answer"]["visual tokens"]
    for method, colour, mark in (("original", "0.35", "o"), ("zspa", "#3d6fb4", "s")):
        seconds = [point[method]["first_token"]["median"] / 1000 for point in points.values()]
        axes.plot([int(n) for n in points], seconds, color=colour, marker=mark, label=LABELS[method])
    axes.set_title("Qwen2.5-VL-7B's widths, a tenth kept", fontsize=10)
    axes.set(xlabel="visual tokens of the image", ylabel="seconds to the first token", xlim=(0, None), ylim=(0, None))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=9)


if __name__ == "__main__":
    main()
