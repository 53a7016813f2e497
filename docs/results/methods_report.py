"""The Markdown of the study of methods."""

from typing import Any

from study_report import Row, average_shown

from hf_zspa.evaluation.statistics import Difference
from hf_zspa.output import markdown_table
from hf_zspa.pruners.registry import METHODS

MODELS = {"embedded": "LLaVA", "embedded-qwen": "Qwen2.5-VL", "embedded-photo": "LLaVA for photographs"}


def markdown(results: dict[str, Any]) -> str:
    """What was chosen, how it was judged, model by model."""
    head = (
        f"# Which method answers best\n\nMeasured {results['date']} with torch {results['torch']} and transformers "
        f"{results['transformers']} on a {results['hardware']}, float32, on the embedded models: per cent right, "
        "unweighted average over kinds of question, "
        "± half a 95 % bootstrap interval. Differences are paired, with 95 % bootstrap intervals; \\* marks one that "
        f"leaves out 0. Each of {results['grid']} settings was tried on {results['tuning_per_kind']} questions of each "
        f"kind about scenes that tune; the tables have {results['per_kind']} of each about other scenes. The best core "
        "ratio is the one of zspa (mean pooling) that is best on these very questions."
    )
    return (
        "\n\n".join(
            [
                head,
                _chosen(results["chosen"]),
                _searched(results["searched"], results["tuning_per_kind"]),
                *_judged(results["judged"]),
                _transfer(results["transfer"]),
            ]
        )
        + "\n"
    )


def _chosen(rows: list[Row]) -> str:
    keys = [key for key in rows[0] if key != "method"]
    table = markdown_table(["method", *keys], [[row["method"], *(row[key] for key in keys)] for row in rows])
    return (
        "## What was chosen\n\nOne setting per method for all models and keep ratios: on all kinds of question, and on "
        f"each half of them.\n\n{table}"
    )


def _searched(rows: list[Row], per_kind: int, shown: int = 10) -> str:
    cells = rows[0]["of"]
    reached = sum(row["ahead"] == cells and not row["behind"] for row in rows)
    lines = [[row["setting"], f"{row['average']:.1f}", str(row["ahead"]), str(row["behind"])] for row in rows[:shown]]
    return (
        "## Is one setting ahead everywhere?\n\n"
        f"Of {len(rows)} settings of weighted and DPP, on the {per_kind} questions of each kind about scenes that "
        f"tune, {reached or 'none'} would be clearly ahead of the best core ratio in all {cells} pairs of a model and "
        "a keep ratio, and in none clearly behind CDPruner's or MMTok's formula. The nearest, of which the first is "
        "judged below:\n\n"
        + markdown_table(
            ["setting", "average", "clearly ahead of the best core ratio", "clearly behind a formula"], lines
        )
    )


def _judged(rows: list[Row]) -> list[str]:
    parts = []
    for model, label in MODELS.items():
        full = [row for row in rows if row["model"] == model and row["name"] == "all tokens"]
        if not full:
            continue
        parts.append(f"## {label}\n\nWith all tokens {average_shown(full[0])}.")
        for keep in dict.fromkeys(row["keep_ratio"] for row in rows if row["keep_ratio"] < 1):
            mine = [row for row in rows if row["model"] == model and row["keep_ratio"] == keep]
            kinds, rivals = list(mine[0]["kinds"]), list(mine[0]["minus"])
            heads = [f"minus {name.replace('the best core ratio', mine[0]['best_core'])}" for name in rivals]
            lines = [
                [
                    row["name"],
                    *(f"{row['kinds'][kind]:.1f}" for kind in kinds),
                    average_shown(row),
                    *(str(Difference(*row["minus"][name])) for name in rivals),
                ]
                for row in sorted(mine, key=lambda row: -row["average"])
            ]
            parts.append(markdown_table([f"keep {keep:g}", *kinds, "average", *heads], lines))
    return parts


def _transfer(rows: list[Row]) -> str:
    rivals = list(rows[0]["minus"])
    lines = [
        [
            f"{row['tuned_on']} → {row['judged_on']}",
            MODELS[row["model"]],
            f"{row['keep_ratio']:g}",
            METHODS[row["method"]].label,
            f"{row['average']:.1f}",
            *(str(Difference(*row["minus"][name])) for name in rivals),
        ]
        for row in rows
    ]
    return (
        "## Tuned on one half of the kinds, judged on the other\n\nEach method at the setting that was chosen on the "
        "half named first, against the published settings.\n\n"
        + markdown_table(
            ["tuned → judged", "model", "keep", "method", "average", *(f"minus {name}" for name in rivals)], lines
        )
    )
