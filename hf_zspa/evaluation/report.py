"""From measurements to `results.json`: one row per task and setting, with intervals and paired differences."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from .cells import GROUPS, Cell
from .statistics import (
    Aggregate,
    average_difference,
    average_interval,
    average_stages,
    bootstrap_interval,
    paired_difference,
)
from .sweep import Measurement

_BASELINES = ("original", "divprune")


def build_results(checkpoint: str, measurements: Sequence[Measurement], **about: Any) -> dict[str, Any]:
    """Everything a sweep found, ready for JSON. All scores are per cent, all intervals 95 % (percentile bootstrap).

    A row's `setup` says when, on what and with which versions it was measured; it is None for an average over cells of
    which these differ.
    """
    found = {measurement.cell: measurement for measurement in measurements}
    rows = [_row(measurement, found) for measurement in measurements]
    return {
        "checkpoint": checkpoint,
        **about,
        "rows": rows + _average_rows(found),
    }


def shares_of_full(measurements: Sequence[Measurement]) -> list[dict[str, Any]]:
    """Per setting the per cent of the unpruned model's score that is left, averaged over tasks, with its interval.

    Samples are paired with those of the unpruned model, whose scores are the scale. Tasks on which it scores 0 are left
    out.
    """
    full = {found.cell.task: found for found in measurements if found.cell.method == "original" and found.score.value}
    settings: dict[tuple, list[Measurement]] = {}
    for found in measurements:
        if found.cell.method != "original" and found.cell.task in full:
            settings.setdefault(tuple(found.cell.setting().items()), []).append(found)
    rows = []
    for key, parts in settings.items():
        theirs = [full[part.cell.task] for part in parts]
        scales = [_per_cent_of(found.score.value, found.score.aggregate) for found in theirs]
        lost = average_difference(
            [(part.score.per_sample, scale) for part, scale in zip(parts, scales)],
            [(found.score.per_sample, scale) for found, scale in zip(theirs, scales)],
        )
        interval = [100 + lost.low, 100 + lost.high]
        seen = sum(part.visual_tokens for part in parts) / len(parts)
        rows.append({**dict(key), "value": 100 + lost.value, "interval": interval, "visual_tokens": seen})
    return rows


def _per_cent_of(full: float, aggregate: Aggregate) -> Aggregate:
    return lambda rows: 100 * aggregate(rows) / full


def _baseline(cell: Cell, method: str, found: Iterable[Cell]) -> Cell | None:
    """The cell, of those found, of a method that `cell` is compared with; None where there is none."""
    wanted = (cell.task, method, 1.0 if method == "original" else cell.keep_ratio)
    return next((other for other in found if (other.task, other.method, other.keep_ratio) == wanted), None)


def _row(measurement: Measurement, found: dict[Cell, Measurement]) -> dict[str, Any]:
    cell, score = measurement.cell, measurement.score
    row: dict[str, Any] = {
        **asdict(cell),
        "metric": measurement.metric,
        "value": score.value,
        "n": len(score.per_sample),
        "interval": list(bootstrap_interval(score.per_sample, score.aggregate)),
    }
    for method in _BASELINES:
        baseline = _baseline(cell, method, found)
        other = found[baseline] if baseline else None
        if other is None or other.cell == cell or other.documents != measurement.documents:
            row[f"minus_{method}"] = None
        else:
            difference = paired_difference(score.per_sample, other.score.per_sample, score.aggregate)
            row[f"minus_{method}"] = asdict(difference)
    return row | {
        "visual_tokens": measurement.visual_tokens,
        "kept_tokens": measurement.kept_tokens,
        "failed": measurement.failed,
        "seconds": round(measurement.seconds, 1),
        "stages": measurement.stages,
        "setup": measurement.setup,
    }


def _average_rows(found: dict[Cell, Measurement]) -> list[dict[str, Any]]:
    """Unweighted means over the tasks of an embedded group, which share one metric; other tasks are not averaged."""
    rows = []
    for group, tasks in GROUPS.items():
        settings: dict[tuple, list[Measurement]] = {}
        for cell, measurement in found.items():
            if cell.task in tasks:
                settings.setdefault(tuple(cell.setting().items()), []).append(measurement)
        whole = {key: parts for key, parts in settings.items() if len(parts) == len(tasks)}
        for key, parts in whole.items():
            rows.append(_average_row(group, dict(key), parts, whole))
    return rows


def _average_row(
    group: str, setting: dict[str, Any], parts: list[Measurement], whole: dict[tuple, list[Measurement]]
) -> dict[str, Any]:
    pairs = [(part.score.per_sample, part.score.aggregate) for part in parts]
    value = sum(part.score.value for part in parts) / len(parts)
    row: dict[str, Any] = {
        "task": f"{group} average",
        **setting,
        "metric": parts[0].metric,
        "value": value,
        "n": sum(len(part.score.per_sample) for part in parts),
        "interval": list(average_interval(pairs)),
    }
    for method in _BASELINES:
        cells = (found[0].cell for found in whole.values() if found[0].cell.task == parts[0].cell.task)
        baseline = _baseline(parts[0].cell, method, cells)
        other = whole[tuple(baseline.setting().items())] if baseline else None
        by_task = {part.cell.task: part for part in other or []}
        ordered = [by_task[part.cell.task] for part in parts if part.cell.task in by_task]
        if not other or other is parts or [p.documents for p in ordered] != [p.documents for p in parts]:
            row[f"minus_{method}"] = None
        else:
            theirs = [(part.score.per_sample, part.score.aggregate) for part in ordered]
            row[f"minus_{method}"] = asdict(average_difference(pairs, theirs))
    return row | {
        "visual_tokens": sum(part.visual_tokens for part in parts) / len(parts),
        "kept_tokens": sum(part.kept_tokens for part in parts) / len(parts),
        "failed": sum(part.failed for part in parts),
        "seconds": round(sum(part.seconds for part in parts), 1),
        "stages": average_stages([part.stages for part in parts]),
        "setup": parts[0].setup if all(part.setup == parts[0].setup for part in parts) else None,
    }
