"""What `hf-zspa eval` does: plans a sweep, runs it with one progress bar, writes results, table and plots."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from . import plots, tables
from .benchmarks import check_data, task_manager
from .cells import KEEP_RATIO, Cell, expand_tasks, plan, pooling_cells, table_plan
from .lmms_model import HfZspa
from .report import build_results
from .sweep import Measurement, Sweep, write_json

EMBEDDED_TASKS = {"embedded": "zspa_scenes", "embedded-qwen": "zspa_scenes_varied"}


@dataclass(frozen=True)
class Request:
    """A sweep as it was asked for; None stands for the default of the checkpoint or the table."""

    checkpoint: str
    output: Path
    table: int | None = None
    tasks: Sequence[str] | None = None
    methods: Sequence[str] | None = None
    keep_ratios: Sequence[float] | None = None
    core_ratios: Sequence[float] | None = None
    pooling: str | None = None
    seed: int = 0
    limit: int | None = None
    data: Path | None = None
    model: dict[str, Any] = field(default_factory=dict)  # arguments of `HfZspa`


def evaluate(request: Request, console: Console) -> dict[str, Any]:
    """Runs what is missing of a sweep and writes `results.json`, `results.md` and plots into its folder.

    Raises:
        ValueError: the request makes no sense, data is missing, or the folder holds another sweep.
    """
    tasks = _tasks(request)
    manager = task_manager()
    check_data(tasks, request.data, manager.all_tasks)
    model = HfZspa(request.checkpoint, **request.model)
    if not model.converted and list(request.methods or []) != ["original"]:
        model.use_method("zspa")  # raises and says how to convert
    cells = _cells(request, tasks, model)  # before the folder: a request that makes no sense leaves nothing behind
    request.output.mkdir(parents=True, exist_ok=True)
    sweep = Sweep(model, manager, request.output, request.data, request.limit)
    measurements = _run(sweep, cells, console, extra=len(tasks) * 2 if request.table == 4 else 0)
    about = {"table": request.table, "batch_size": model.batch_size, "limit": request.limit}
    if model.converted:
        about |= {f"zspa_{name}": value for name, value in model.defaults().items()}
    results = build_results(request.checkpoint, measurements, **about)
    write_json(request.output / "results.json", results)
    (request.output / "results.md").write_text(tables.markdown(results), encoding="utf-8")
    plots.plot_core_ratio(results["rows"], request.output / "core-ratio.png")
    plots.plot_keep_ratio(results["rows"], request.output / "keep-ratio.png")
    return results


def _tasks(request: Request) -> list[str]:
    if request.tasks is not None:
        return expand_tasks(request.tasks)
    if request.checkpoint in EMBEDDED_TASKS:
        return expand_tasks([EMBEDDED_TASKS[request.checkpoint]])
    if request.table is None:
        raise ValueError(f"say what to evaluate {request.checkpoint} on: --tasks pope,gqa or --table 1")
    return [cell.task for cell in dict.fromkeys(_first_cells(request.table))]


def _first_cells(table: int) -> list[Cell]:
    return [cell for cell in table_plan(table, None, 0.2, "mean") if cell.method == "original"]


def _cells(request: Request, tasks: Sequence[str], model: HfZspa) -> list[Cell]:
    if not model.converted:
        return plan(tasks, ["original"], [1.0], [], "mean")
    own = model.defaults()
    pooling = request.pooling or own["pooling"]
    if request.table is not None:
        given = {"--methods": request.methods, "--keep-ratio": request.keep_ratios, "--core-ratio": request.core_ratios}
        clashing = [name for name, value in given.items() if value is not None]
        if clashing:
            raise ValueError(f"--table {request.table} sets {', '.join(clashing)} itself: leave one of the two out")
        return table_plan(request.table, tasks, own["core_ratio"], pooling, request.seed)
    methods = request.methods or ["original", "relevance", "divprune", "zspa", "random"]
    keep = request.keep_ratios or [own["keep_ratio"]]
    return plan(tasks, methods, keep, request.core_ratios or [own["core_ratio"]], pooling, request.seed)


def _run(sweep: Sweep, cells: Sequence[Cell], console: Console, extra: int) -> list[Measurement]:
    """Measures all cells, and for Table 4 (`extra` cells) then the other poolings at the best core ratios."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=len(cells) + extra)
        done = [_one(sweep, cell, bar, task, i) for i, cell in enumerate(cells)]
        if extra:
            more = [cell for cell in pooling_cells(best_core_ratios(done)) if cell not in cells]
            done += [_one(sweep, cell, bar, task, len(done) + i) for i, cell in enumerate(more)]
    return done


def _one(sweep: Sweep, cell: Cell, bar: Progress, task: Any, before: int) -> Measurement:
    bar.update(task, description=cell.name, completed=before)
    shares = [0.0]

    def advance(share: float) -> None:
        shares[0] += share
        bar.update(task, completed=before + min(shares[0], 1.0))

    return sweep.run(cell, advance)


def best_core_ratios(measurements: Sequence[Measurement]) -> dict[str, float]:
    """Per task the core ratio of the highest score among "zspa" at keep ratio 0.1; the lowest of equals."""
    best: dict[str, tuple[float, float]] = {}
    for measurement in measurements:
        cell = measurement.cell
        if cell.method == "zspa" and cell.keep_ratio == KEEP_RATIO and cell.core_ratio is not None:
            rank = (measurement.score.value, -cell.core_ratio)
            best[cell.task] = max(best.get(cell.task, rank), rank)
    return {task: -negated for task, (_, negated) in best.items()}
