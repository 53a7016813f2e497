"""The Markdown of a study: each question it answers as a table."""

from typing import Any

from .questions import KINDS

Row = dict[str, Any]


def markdown(results: dict[str, Any]) -> str:
    """Tables per topic and keep ratio, and what the search for a rule of the core ratio found."""
    head = (
        f"# Settings on the embedded {results['family']} model\n\nMeasured {results['date']} with torch "
        f"{results['torch']} and transformers {results['transformers']}, {results['per_kind']} held-out questions of "
        "each kind, per cent right. The difference is the paired one to the default (core ratio 0.2, mean pooling, "
        "scope query, positions preserved) at the same keep ratio, with its 95 % bootstrap interval; \\* marks an "
        "interval that leaves out 0."
    )
    parts = [head]
    for topic in dict.fromkeys(row["topic"] for row in results["variants"]):
        parts.append(f"## {topic.capitalize()}")
        for keep in dict.fromkeys(row["keep_ratio"] for row in results["variants"]):
            rows = [r for r in results["variants"] if r["topic"] == topic and r["keep_ratio"] == keep]
            parts.append(_variants(rows, keep))
    parts.append(_rules(results["core_rules"]))
    return "\n\n".join(parts) + "\n"


def _variants(rows: list[Row], keep: float) -> str:
    lines = [_line([f"keep {keep:g}", *KINDS, "average", "minus default"]), _rule(len(KINDS) + 3)]
    for row in rows:
        kinds = [f"{row['kinds'][kind]:.1f}" for kind in KINDS]
        lines.append(_line([row["name"], *kinds, f"{row['average']:.1f}", difference(row["minus_default"])]))
    return "\n".join(lines)


def _rules(rows: list[Row]) -> str:
    parts = [
        "## A core ratio chosen from the similarities\n\nEach rule sets the size of the core image by image from the "
        "relevance of the visual tokens (`RULES` in `hf_zspa/embedded/study.py`). It is tuned on existence, attribute "
        "and relation about other scenes, and judged on reading, chart and extreme."
    ]
    for keep in dict.fromkeys(row["keep_ratio"] for row in rows):
        mine = [row for row in rows if row["keep_ratio"] == keep]
        kinds = list(mine[0]["deciding"]["kinds"])
        lines = [_line([f"keep {keep:g}", "tuning", "deciding", *kinds]), _rule(len(kinds) + 3)]
        for row in mine:
            judged = row["deciding"]
            values = [f"{judged['kinds'][kind]:.1f}" for kind in kinds]
            lines.append(_line([row["rule"], f"{row['tuning']['average']:.1f}", f"{judged['average']:.1f}", *values]))
        parts += ["\n".join(lines), _verdict(mine, keep)]
    return "\n\n".join(parts)


def _verdict(rows: list[Row], keep: float) -> str:
    """The rule and the fixed ratio that are best where they are tuned, and what they do where they are judged."""
    fixed = [row for row in rows if row["fixed"]]
    rules = [row for row in rows if row not in fixed]
    best_fixed, best_rule = (max(group, key=lambda row: row["tuning"]["average"]) for group in (fixed, rules))
    oracle = max(row["deciding"]["average"] for row in fixed)
    return (
        f'Keep {keep:g}: tuned on the first three kinds, the best rule is "{best_rule["rule"]}" with '
        f'{best_rule["deciding"]["average"]:.1f} on the other three; the best fixed ratio is "{best_fixed["rule"]}" '
        f"with {best_fixed['deciding']['average']:.1f}. The best fixed ratio for the other three has {oracle:.1f}."
    )


def difference(values: list[float]) -> str:
    """A difference and its interval, marked where it is clear."""
    value, low, high = values
    clear = "\\*" if low > 0 or high < 0 else ""
    return f"{value:+.1f}{clear} ({low:+.1f} to {high:+.1f})"


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _rule(columns: int) -> str:
    return "|" + "---|" * columns
