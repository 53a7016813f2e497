"""Results as Markdown: our numbers with their intervals, and the paper's beside them in tables of their own."""

from collections.abc import Callable, Sequence
from typing import Any

from ..output import markdown_table
from .benchmarks import BENCHMARKS
from .cells import CORE_RATIOS, GROUPS, KEEP_RATIO
from .paper import COLUMNS, paper_table
from .statistics import Difference, average_stages

Row = dict[str, Any]
_DIALS = {"core_ratio": "core", "relevance_weight": "weight"}


def markdown(results: dict[str, Any]) -> str:
    """The whole report of a `results.json`."""
    rows = results["rows"]
    parts = [_heading(results), *_warnings(rows)]
    table = results.get("table")
    parts.append(_TABLES[table](results) if table else f"## Scores (measured here)\n\n{_methods_table(rows)}")
    if table is None or table == 1:
        parts.append(_differences_table(rows))
    parts.append(_stages_table(rows))
    parts += [f"Left out: {reason}." for reason in results.get("left_out", {}).values()]
    if "resized" in results:
        parts.append(f'"resized" is the unpruned model, given {results["resized"]}.')
    parts.append(_protocol(rows))
    if table != "tokens":
        parts.append(_paper_part(table or 1, _tasks(rows)))
    return "\n\n".join(part for part in parts if part) + "\n"


def table_1(results: dict[str, Any]) -> str:
    """Methods by tasks; "zspa" at the checkpoint's own core ratio, and at the best one per task."""
    rows = [row for row in results["rows"] if row["keep_ratio"] in (1.0, KEEP_RATIO)]
    if not any(row["method"] == "zspa" for row in rows):
        return f"## Table 1 (measured here)\n\n{_methods_table(rows)}"
    own = results["zspa_core_ratio"]
    fixed = [row for row in rows if row["method"] != "zspa" or row["core_ratio"] == own]
    tasks = _tasks(rows)
    best = {task: _best([row for row in rows if row["task"] == task and row["method"] == "zspa"]) for task in tasks}
    tuned = ["zspa, best core ratio (tuned on the test set)", "", *(_tuned(task, best) for task in tasks)]
    note = (
        f"zspa has the core ratio {own:g} of the checkpoint. The last row takes for each task the core ratio that is "
        "best on the very same questions, as the paper's Table 1 does: it is an upper bound, not a result."
    )
    return f"## Table 1 (measured here)\n\n{_methods_table(fixed, tuned)}\n\n{note}"


def _tuned(task: str, best: dict[str, Row | None]) -> str:
    """The best score of a task and where it is; of a group's average, the mean of the best scores of its tasks."""
    found = best[task]
    if found is None:
        return "–"
    if not task.endswith(" average"):
        return f"{_score(found)} at {found['core_ratio']:g}"
    members = [best[name] for name in GROUPS[task.removesuffix(" average")]]
    return f"{sum(row['value'] for row in members if row) / len(members):.1f}, each at its own"


def table_2(results: dict[str, Any]) -> str:
    """Tasks by core ratios."""
    rows, tasks = results["rows"], _tasks(results["rows"])
    lines = []
    for task in tasks:
        mine = [row for row in rows if row["task"] == task and row["pooling"] in (None, "mean")]
        found = [_first(mine, method="original")]
        found += [_first(mine, method="zspa", core_ratio=core) for core in CORE_RATIOS]
        lines.append([_title(task), *map(_score, found)])
    table = markdown_table(["task", "original", *(f"{core:g}" for core in CORE_RATIOS)], lines)
    return f"## Table 2 (measured here): score by core ratio, keep ratio {KEEP_RATIO}\n\n{table}"


def table_4(results: dict[str, Any]) -> str:
    """Tasks by poolings, at the core ratio that is best for each task with the mean."""
    rows, tasks = results["rows"], _tasks(results["rows"])
    lines = []
    for task in (task for task in tasks if not task.endswith("average")):
        mine = [row for row in rows if row["task"] == task]
        best = _best([row for row in mine if row["method"] == "zspa" and row["pooling"] == "mean"])
        if best is None:
            continue
        found = [
            _first(mine, method="zspa", core_ratio=best["core_ratio"], pooling=name) for name in ("none", "max", "mean")
        ]
        cells = [f"{best['core_ratio']:g}", _score(_first(mine, method="original")), *map(_score, found)]
        lines.append([_title(task), *cells])
    table = markdown_table(["task", "core ratio", "original", "none", "max", "mean"], lines)
    return f"## Table 4 (measured here): score by pooling, keep ratio {KEEP_RATIO}\n\n{table}"


def table_tokens(results: dict[str, Any]) -> str:
    """Methods by budgets: the per cent of the unpruned score that is left, averaged over tasks."""
    shares = results["shares_of_full"]
    budgets = {row["keep_ratio"]: f"{row['keep_ratio'] * row['visual_tokens']:.0f} tokens" for row in shares}
    lines = []
    for name in dict.fromkeys(setting(row, keep=False) for row in shares):
        mine = {row["keep_ratio"]: row for row in shares if setting(row, keep=False) == name}
        lines.append([name, *(_score(mine.get(keep)) for keep in budgets)])
    return (
        "## Per cent of the unpruned score, averaged over tasks (measured here)\n\n"
        f"{markdown_table(['method', *budgets.values()], lines)}\n\n"
        "Samples are paired with the unpruned model's, whose scores are the scale. No method keeps more tokens than "
        "its column says.\n\n"
        f"## Scores (measured here)\n\n{_methods_table(results['rows'])}"
    )


_TABLES: dict[int | str, Callable[[dict[str, Any]], str]] = {
    1: table_1, 2: table_2, 4: table_4, "tokens": table_tokens,
}  # fmt: skip


def _heading(results: dict[str, Any]) -> str:
    setups = [row["setup"] for row in results["rows"] if row["setup"]]
    dates = sorted({setup["date"] for setup in setups})
    when = " to ".join(dict.fromkeys([dates[0], dates[-1]]))
    versions, hardware = (_all_of([setup[name] for setup in setups]) for name in ("versions", "hardware"))
    settings = results["settings"]
    limit = f" The first {settings['limit']} samples of each task." if settings["limit"] else ""
    return (
        f"# {results['checkpoint']}\n\nMeasured {when} with {versions} on {hardware}, {settings['dtype']}.{limit} "
        "Scores are per cent; ± is half a 95 % bootstrap interval: 0 where all samples score alike, however few."
    )


def _all_of(found: Sequence[dict[str, Any]]) -> str:
    """What several mappings hold, each distinct one once."""
    return " and ".join(dict.fromkeys(", ".join(f"{name} {value}" for name, value in each.items()) for each in found))


def _warnings(rows: Sequence[Row]) -> list[str]:
    found = []
    for row in (row for row in rows if not row["task"].endswith(" average")):
        if row["failed"]:
            found.append(f"**{row['failed']} samples failed** and count as wrong: {setting(row)} on {row['task']}.")
        unpruned = row["visual_tokens"] and row["kept_tokens"] >= row["visual_tokens"]
        if row["method"] != "original" and unpruned:
            found.append(f"**Nothing was pruned**: {setting(row)} on {row['task']}.")
    return found


def _methods_table(rows: Sequence[Row], *more: Sequence[str]) -> str:
    """Methods by tasks, and then the lines of `more`."""
    lines, tasks = [], _tasks(rows)
    for name in dict.fromkeys(map(setting, rows)):
        mine = {row["task"]: row for row in rows if setting(row) == name}
        lines.append([name, _tokens(list(mine.values())), *(_score(mine.get(task)) for task in tasks)])
    return markdown_table(["method", "tokens", *map(_title, tasks)], [*lines, *more])


def _differences_table(rows: Sequence[Row]) -> str:
    """Paired differences; a star marks those whose interval leaves out 0."""
    parts = []
    for baseline in ("original", "divprune"):
        mine = [row for row in rows if row[f"minus_{baseline}"]]
        if not mine:
            continue
        tasks = _tasks(mine)
        lines = []
        for name in dict.fromkeys(map(setting, mine)):
            found = {row["task"]: row[f"minus_{baseline}"] for row in mine if setting(row) == name}
            lines.append([name, *(_difference(found.get(task)) for task in tasks)])
        parts.append(markdown_table([f"minus {baseline}", *map(_title, tasks)], lines))
    if not parts:
        return ""
    return "## Paired differences\n\n" + "\n\n".join(parts) + "\n\n\\* The 95 % interval leaves out 0."


def _stages_table(rows: Sequence[Row]) -> str:
    """Methods by stages of the way to an answer, the mean of all tasks."""
    timed = [row for row in rows if row.get("stages") and not row["task"].endswith(" average")]
    lines = []
    for name in dict.fromkeys(map(setting, timed)):
        found = average_stages([row["stages"] for row in timed if setting(row) == name])
        lines.append([name, *(f"{spent:.1f}" for spent in [*found.values(), sum(found.values())])])
    if not lines:
        return ""
    setups = [row["setup"] for row in timed if row["setup"]]
    batches = _all_of([{"batch size": setup["batch_size"]} for setup in setups])
    return (
        "## Where the time goes: milliseconds per sample, mean over tasks (measured here)\n\n"
        f"{markdown_table(['method', *timed[0]['stages'], 'sum'], lines)}\n\n"
        f"On the wall clock, {batches}, method after method: `hf-zspa bench` compares times."
    )


def _difference(found: dict[str, float] | None) -> str:
    return str(Difference(**found)) if found else "–"


def _protocol(rows: Sequence[Row]) -> str:
    known = [BENCHMARKS[task] for task in _tasks(rows) if task in BENCHMARKS]
    return "\n".join(f"- {benchmark.column} (`{benchmark.task}`): {benchmark.protocol}" for benchmark in known)


def _paper_part(table: int, tasks: Sequence[str]) -> str:
    """The paper's numbers for the tasks at hand, in a table of their own per model."""
    rows = [row for row in paper_table(table) if COLUMNS[row.column] in tasks]
    parts = []
    for model in dict.fromkeys(row.model for row in rows):
        mine = [row for row in rows if row.model == model]
        columns = list(dict.fromkeys(row.column for row in mine))
        lines = []
        for setting in dict.fromkeys(row.setting for row in mine):
            values = {row.column: f"{row.value:.1f}" for row in mine if row.setting == setting}
            lines.append([setting, *(values.get(column, "–") for column in columns)])
        parts.append(markdown_table([model, *columns], lines))
    return f"## The paper's numbers (its Table {table}; not measured here)\n\n" + "\n\n".join(parts) if parts else ""


def _tasks(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(row["task"] for row in rows))


def _title(task: str) -> str:
    if task in BENCHMARKS:
        return BENCHMARKS[task].column
    return task.removeprefix("zspa_scenes").lstrip("_ ").replace("_", " ")


def setting(row: Row, *, keep: bool = True) -> str:
    """What a row was measured with; without the keep ratio where that is said elsewhere."""
    parts = [row["method"]]
    parts += [f"{said} {row[name]:g}" for name, said in _DIALS.items() if row.get(name) is not None]
    if keep and row["method"] != "original":
        parts.append(f"keep {row['keep_ratio']:g}")
    if row["pooling"] not in (None, "mean"):
        parts.append(f"pooling {row['pooling']}")
    return ", ".join([*parts, *(["centred"] if row.get("centre") else [])])


def _tokens(rows: Sequence[Row]) -> str:
    seen = sum(row["visual_tokens"] for row in rows) / max(1, len(rows))
    kept = sum(row["kept_tokens"] for row in rows) / max(1, len(rows))
    return f"{seen:.0f} → {kept:.1f}" if kept < seen else f"{seen:.0f}"


def _score(row: Row | None) -> str:
    if row is None:
        return "–"
    low, high = row["interval"]
    return f"{row['value']:.1f} ± {(high - low) / 2:.1f}"


def _first(rows: Sequence[Row], **fields: Any) -> Row | None:
    return next((row for row in rows if all(row[name] == value for name, value in fields.items())), None)


def _best(rows: Sequence[Row]) -> Row | None:
    return max(rows, key=lambda row: (row["value"], -row["core_ratio"]), default=None)
