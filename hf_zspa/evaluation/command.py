"""What `hf-zspa eval` does: plans a sweep, runs it with one progress bar, writes results, table and plots."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ..output import replace_files
from . import plots, tables
from .asked import Request, planned
from .cells import KEEP_RATIO, Cell, pooling_cells
from .fitting import check_fit, misfit
from .lmms_model import HfZspa
from .lmms_tasks import check_data, task_manager
from .report import build_results, shares_of_full
from .resizing import way
from .sweep import Measurement, Sweep, as_json


def evaluate(request: Request, console: Console) -> dict[str, Any]:
    """Runs what is missing of a sweep and writes `STEM.json`, `STEM.md` and `STEM-….png` into its folder.

    Args:
        console: where the progress bar goes. It must hold on to its file: what lmms-eval prints is sent elsewhere while
            a cell runs, and a console that looks `sys.stderr` up would follow.

    Raises:
        ValueError: the request makes no sense, data is missing, or the folder holds another sweep.
        SampleError: a sample failed.
        ScoreError: lmms-eval's number is not what its samples add up to.
    """
    own, tasks, cells = planned(request)
    manager = task_manager()
    check_data(tasks, request.data, manager)
    model = HfZspa(request.checkpoint, **request.model)
    cells, left_out = _fitting(request, cells, model)
    for reason in left_out.values():
        console.print(f"Left out: {reason}", markup=False, highlight=False, soft_wrap=True)
    sweep = Sweep(model, manager, request.output, request.data, request.limit)
    extra = len(tasks) * 2 if request.table == 4 else 0
    console.print(f"cells: {len(cells) + extra}, each a task under one method", markup=False, highlight=False)
    measurements = _run(sweep, cells, console, extra)
    about: dict[str, Any] = {
        "table": request.table,
        "settings": sweep.settings,
        "data": str(request.data) if request.data else None,
    }
    if left_out:
        about["left_out"] = left_out
    if any(cell.method == "resized" for cell in cells):
        about["resized"] = way(model.processor, model.model.config)
    if request.table == "tokens":
        about["shares_of_full"] = shares_of_full(measurements)
    about |= {f"zspa_{name}": value for name, value in (own or {}).items()}
    results = build_results(request.checkpoint, measurements, **about)
    report = request.output / request.stem
    replace_files({Path(f"{report}.json"): as_json(results), Path(f"{report}.md"): tables.markdown(results).encode()})
    for name, plot in (("core-ratio", plots.plot_core_ratio), ("keep-ratio", plots.plot_keep_ratio)):
        path = request.output / f"{request.stem}-{name}.png"
        if not plot(results["rows"], path):
            path.unlink(missing_ok=True)  # one of an earlier run would show other rows
    return results


def _fitting(request: Request, cells: Sequence[Cell], model: HfZspa) -> tuple[list[Cell], dict[str, str]]:
    """The cells that the model can be measured in, and why those of a method that a default list brought along are left
    out, by method.

    Raises:
        ValueError: the model cannot be measured under a method of `--methods`.
    """
    left_out = {}
    for method in dict.fromkeys(cell.method for cell in cells):
        if request.methods is not None:
            check_fit(method, model.model, model.processor)
        elif reason := misfit(method, model.model, model.processor):
            left_out[method] = reason
    return [cell for cell in cells if cell.method not in left_out], left_out


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
            more = [cell for cell in pooling_cells(best_cells(done)) if cell not in cells]
            done += [_one(sweep, cell, bar, task, len(done) + i) for i, cell in enumerate(more)]
    return done


def _one(sweep: Sweep, cell: Cell, bar: Progress, task: Any, before: int) -> Measurement:
    bar.update(task, description=cell.label, completed=before)
    shares = [0.0]

    def advance(share: float) -> None:
        shares[0] += share
        bar.update(task, completed=before + min(shares[0], 1.0))

    found = sweep.run(cell, advance)
    if not bar.console.is_terminal:
        done = f"{before + 1} of {bar.tasks[task].total:g}: {cell.label}, {found.metric} {found.score.value:.2f}"
        bar.console.print(done, markup=False, highlight=False, soft_wrap=True)
    return found


def best_cells(measurements: Sequence[Measurement]) -> list[Cell]:
    """Per task the cell of the highest score of "zspa" at keep ratio 0.1; of equals that of the lowest core ratio."""
    best: dict[str, Measurement] = {}
    rank = lambda found: (found.score.value, -(found.cell.core_ratio or 0.0))  # noqa: E731
    for measurement in measurements:
        cell = measurement.cell
        if cell.method == "zspa" and cell.keep_ratio == KEEP_RATIO:
            best[cell.task] = max(best.get(cell.task, measurement), measurement, key=rank)
    return [measurement.cell for measurement in best.values()]
