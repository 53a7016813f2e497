"""What `hf-zspa eval` does: plans a sweep, runs it with one progress bar, writes results, table and plots."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ..checkpoints.base import is_converted, read_config
from ..checkpoints.resolve import checkpoint_folder
from ..checkpoints.verify import check_code
from ..output import output_folder, replace_files
from ..pruners.registry import METHODS, PRUNER_SETTINGS, readers, unread
from ..remote_code.zspa_config import FIELDS
from . import plots, tables
from .cells import (
    KEEP_RATIO,
    TABLE_1_METHODS,
    TABLE_TASKS,
    TOKEN_RATIOS,
    Cell,
    expand_tasks,
    plan,
    pooling_cells,
    table_methods,
    table_plan,
)
from .fitting import check_fit, misfit
from .lmms_model import HfZspa
from .lmms_tasks import check_data, task_manager
from .report import build_results, shares_of_full
from .resizing import way
from .sweep import Measurement, Sweep, as_json

EMBEDDED_TASKS = {
    "embedded": "zspa_scenes",
    "embedded-qwen": "zspa_scenes_varied",
    "embedded-photo": "zspa_scenes_photo",
}
_OWN = ("keep_ratio", "method", "core_ratio", "relevance_weight", "pooling", "centre", "prompt_scope", "position_ids")


@dataclass(frozen=True)
class Request:
    """A sweep as it was asked for; None stands for the default of the checkpoint or the table, as does a setting (of
    `PRUNER_SETTINGS`, each with its values) that is not there."""

    checkpoint: str
    output: Path
    table: int | str | None = None
    tasks: Sequence[str] | None = None
    methods: Sequence[str] | None = None
    keep_ratios: Sequence[float] | None = None
    settings: dict[str, Sequence[Any]] = field(default_factory=dict)
    limit: int | None = None
    data: Path | None = None
    model: dict[str, Any] = field(default_factory=dict)  # arguments of `HfZspa`

    @property
    def stem(self) -> str:
        """What the files with the results are called, so that the tables of one folder stand side by side."""
        return "results" if self.table is None else f"table-{self.table}"


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
    _check_alone()
    own = _own_fields(request)
    tasks = _tasks(request)
    cells = _cells(request, tasks, own)
    manager = task_manager()
    check_data(tasks, request.data, manager)
    output_folder(request.output)  # last before minutes of loading: a request that makes no sense leaves nothing behind
    model = HfZspa(request.checkpoint, **request.model)
    cells, left_out = _fitting(request, cells, model)
    for reason in left_out.values():
        console.print(f"Left out: {reason}", markup=False, highlight=False, soft_wrap=True)
    sweep = Sweep(model, manager, request.output, request.data, request.limit)
    measurements = _run(sweep, cells, console, extra=len(tasks) * 2 if request.table == 4 else 0)
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


def _check_alone() -> None:
    processes = os.environ.get("WORLD_SIZE", "1")
    if processes != "1":
        raise ValueError(
            f"hf-zspa eval runs in one process, but was started in {processes} (WORLD_SIZE): leave torchrun or "
            "accelerate launch away, or start them with -m lmms_eval --model hf_zspa, that is python -m lmms_eval"
        )


def _tasks(request: Request) -> list[str]:
    if request.tasks is not None:
        if not request.tasks:
            raise ValueError("--tasks names no task: give some, such as pope,gqa")
        return expand_tasks(request.tasks)
    if request.checkpoint in EMBEDDED_TASKS:
        return expand_tasks([EMBEDDED_TASKS[request.checkpoint]])
    if request.table is None:
        raise ValueError(f"say what to evaluate {request.checkpoint} on: --tasks pope,gqa or --table 1")
    return list(TABLE_TASKS[request.table])


def _own_fields(request: Request) -> dict[str, Any] | None:
    """The checkpoint's own pruning fields, without their prefix; None where it is not converted.

    Raises:
        ValueError: its code is not that of this package, and is not trusted.
    """
    folder = checkpoint_folder(request.checkpoint, request.model.get("revision"), weights=False)
    config = read_config(folder)
    if not is_converted(config):
        return None
    if not request.model.get("trust_remote_code"):
        check_code(folder, request.checkpoint)
    return {name: config.get(f"zspa_{name}", FIELDS[f"zspa_{name}"]) for name in _OWN}


def _cells(request: Request, tasks: Sequence[str], own: dict[str, Any] | None) -> list[Cell]:
    if request.methods is not None and not request.methods:
        raise ValueError(f"--methods names no method: choose from {', '.join(METHODS)}")
    if own is None:
        if list(request.methods or ()) != ["original"]:
            raise ValueError(
                f"{request.checkpoint} does not prune: make a checkpoint that does with "
                f"hf-zspa convert {request.checkpoint} OUT, and evaluate OUT; or give --methods original"
            )
        _refuse_unread(request, ["original"])
        return plan(tasks, ["original"], [1.0], {})
    settings = {name: [own.get(name, 0)] for name in PRUNER_SETTINGS} | request.settings  # "random" draws from seed 0
    if request.table is not None:
        _refuse_what_a_table_sets(request)
        methods = request.methods or table_methods(request.table, own["method"])
        _refuse_unread(request, methods)
        if request.table == "tokens":
            return plan(tasks, list(dict.fromkeys(["original", *methods])), TOKEN_RATIOS, settings)
        return table_plan(request.table, tasks, settings, own["method"])
    methods = request.methods or [own["method"] if name == "zspa" else name for name in TABLE_1_METHODS]
    cells = plan(tasks, methods, request.keep_ratios or [own["keep_ratio"]], settings)
    _refuse_unread(request, methods)
    return cells


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


def _refuse_what_a_table_sets(request: Request) -> None:
    fixed = {1: ("core_ratio",), "tokens": ()}.get(request.table, ("core_ratio", "pooling"))
    given = {"--methods": (request.table != "tokens" and request.methods) or None, "--keep-ratio": request.keep_ratios}
    given |= {f"--{name.replace('_', '-')}": request.settings.get(name) for name in fixed}
    clashing = [name for name, value in given.items() if value is not None]
    if clashing:
        raise ValueError(f"--table {request.table} sets {', '.join(clashing)} itself: leave one of the two out")


def _refuse_unread(request: Request, methods: Sequence[str]) -> None:
    """Raises `ValueError` for an option that none of the methods reads."""
    for name in unread({"keep_ratio": request.keep_ratios, **request.settings}, methods):
        option, reading = name.replace("_", "-"), ", ".join(readers(name))
        raise ValueError(f"--{option} is for {reading}, none of which is measured here: leave it out")


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
    bar.update(task, description=cell.name, completed=before)
    shares = [0.0]

    def advance(share: float) -> None:
        shares[0] += share
        bar.update(task, completed=before + min(shares[0], 1.0))

    found = sweep.run(cell, advance)
    if not bar.console.is_terminal:
        done = f"{before + 1} of {bar.tasks[task].total:g}: {cell.name}, {found.metric} {found.score.value:.2f}"
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
