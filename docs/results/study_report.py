"""The Markdown of a study: each question it answers as a table."""

from typing import Any

from hf_zspa.evaluation.statistics import Difference
from hf_zspa.output import markdown_table
from hf_zspa.scenes.questions import KINDS

Row = dict[str, Any]


def markdown(results: dict[str, Any]) -> str:
    """Tables per topic and keep ratio, and what the search for a rule of the core ratio found."""
    head = (
        f"# Settings on the embedded {results['family']} model\n\nMeasured {results['date']} with torch "
        f"{results['torch']} and transformers {results['transformers']}, {results['per_kind']} held-out questions of "
        "each kind, per cent right; ± is half a 95 % bootstrap interval. Differences are paired, at the same keep "
        "ratio, with their 95 % bootstrap intervals: to the default (core 0.2, mean pooling, scope query, positions "
        "preserved), diversity alone (core 0.0), relevance alone (core 1.0) and the core ratio that is best on these "
        "very questions. \\* marks an interval that leaves out 0."
    )
    parts = [head, *([results["note"]] if "note" in results else [])]
    for topic in dict.fromkeys(row["topic"] for row in results["variants"]):
        parts.append(f"## {topic.capitalize()}")
        for keep in dict.fromkeys(row["keep_ratio"] for row in results["variants"]):
            rows = [r for r in results["variants"] if r["topic"] == topic and r["keep_ratio"] == keep]
            parts.append(_variants(rows, keep))
    parts.append(_rules(results["core_rules"]))
    return "\n\n".join(parts) + "\n"


def _variants(rows: list[Row], keep: float) -> str:
    others = list(rows[0]["minus"])
    head = [f"keep {keep:g}", *KINDS, "average", *(f"minus {name}" for name in others)]
    lines = []
    for row in rows:
        kinds = [f"{row['kinds'][kind]:.1f}" for kind in KINDS]
        differences = [str(Difference(*row["minus"][name])) for name in others]
        lines.append([row["name"], *kinds, average_shown(row), *differences])
    return markdown_table(head, lines)


def average_shown(row: Row) -> str:
    """The average of a row of `study.summary`, and half of its interval."""
    low, high = row["interval"]
    return f"{row['average']:.1f} ± {(high - low) / 2:.1f}"


def _rules(rows: list[Row]) -> str:
    parts = [
        "## A core ratio chosen from the similarities\n\nEach rule sets the size of the core image by image from the "
        "relevance of the visual tokens to the prompt, and some also from that to prompts of other questions (`RULES` "
        "in `docs/results/core_rules.py`). It is tuned on existence, attribute and relation about other scenes, "
        "and judged on reading, chart and extreme. The difference on these three is to the fixed ratio that is best "
        "there; the last column names the kinds, of all six, on which a rule is clearly behind the fixed ratio that is "
        "best on that kind."
    ]
    for keep in dict.fromkeys(row["keep_ratio"] for row in rows):
        mine = [row for row in rows if row["keep_ratio"] == keep]
        kinds = list(mine[0]["deciding"]["kinds"])
        head = [f"keep {keep:g}", "tuning", "deciding", *kinds, f"minus {mine[0]['best_fixed']}", "clearly behind on"]
        lines = []
        for row in mine:
            judged = row["deciding"]
            values = [f"{judged['kinds'][kind]:.1f}" for kind in kinds]
            lead = str(Difference(*row["minus_best_fixed"]))
            behind = ", ".join(row["behind"]) or "–"
            lines.append([row["rule"], f"{row['tuning']['average']:.1f}", average_shown(judged), *values, lead, behind])
        parts += [markdown_table(head, lines), _verdict(mine, keep)]
    return "\n\n".join(parts)


def _verdict(rows: list[Row], keep: float) -> str:
    """The rule and the fixed ratio that are best where they are tuned, and whether any rule is good enough."""
    fixed = [row for row in rows if row["fixed"]]
    rules = [row for row in rows if not row["fixed"]]
    best_fixed, best_rule = (max(group, key=lambda row: row["tuning"]["average"]) for group in (fixed, rules))
    ahead = [row["rule"] for row in rules if not row["behind"] and Difference(*row["minus_best_fixed"]).low > 0]
    return (
        f'Keep {keep:g}: tuned on the first three kinds, the best rule is "{best_rule["rule"]}" with '
        f'{best_rule["deciding"]["average"]:.1f} on the other three; the best fixed ratio is "{best_fixed["rule"]}" '
        f"with {best_fixed['deciding']['average']:.1f}. Behind on no kind and clearly ahead of the best fixed ratio on "
        f"the other three: {', '.join(ahead) or 'no rule'}."
    )
