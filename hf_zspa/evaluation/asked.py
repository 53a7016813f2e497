"""What `hf-zspa eval` was asked for, and which cells that makes, known before torch and lmms-eval are imported."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..checkpoints.base import is_converted, read_config
from ..checkpoints.resolve import checkpoint_folder
from ..checkpoints.verify import check_code
from ..models.given import check_dtype
from ..output import check_output
from ..pruners.registry import METHODS, PRUNER_SETTINGS, readers, unread
from ..remote_code.zspa_config import FIELDS
from .cells import TABLE_1_METHODS, TABLE_TASKS, TOKEN_RATIOS, Cell, expand_tasks, plan, table_methods, table_plan

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


def planned(request: Request) -> tuple[dict[str, Any] | None, list[str], list[Cell]]:
    """The checkpoint's own fields without their prefix, None where it is not converted; the tasks, and the cells.

    Raises:
        ValueError: the request makes no sense, or the checkpoint's code is not that of this package and not trusted.
    """
    _check_alone()
    check_output(request.output)
    check_dtype(request.model.get("dtype", "auto"), "--dtype")
    own, tasks = _own_fields(request), _tasks(request)
    return own, tasks, _cells(request, tasks, own)


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
