"""What a sweep consists of: cells, one task under one method with its ratios, and the plans of the paper's tables."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..pruners.registry import check_method, method_of
from ..remote_code.zspa_checks import POOLINGS, check_choice, check_ratio
from ..scenes.questions import KINDS

KEEP_RATIO = 0.1  # the paper's tables
CORE_RATIOS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)  # the paper's Table 2 and Figure 3
TABLE_1_METHODS = ("original", "relevance", "divprune", "zspa", "random")
TABLE_TASKS = {
    1: ("mmmu_val", "gqa", "ai2d", "pope", "textvqa_val", "chartqa"),
    2: ("mmmu_val", "gqa", "pope"),
    4: ("mmmu_val", "pope"),
}
GROUPS = {group: tuple(f"{group}_{kind}" for kind in KINDS) for group in ("zspa_scenes", "zspa_scenes_varied")}


@dataclass(frozen=True, order=True)
class Cell:
    """One measurement; a field that the method does not read is None, so that equal measurements are equal cells."""

    task: str
    method: str
    keep_ratio: float = 1.0
    core_ratio: float | None = None
    pooling: str | None = None
    seed: int | None = None

    @property
    def name(self) -> str:
        """A file name of its own, such as `pope-zspa-keep0.1-core0.2-mean`; ratios have all their digits."""
        parts = [self.task, self.method]
        if self.method != "original":
            parts.append(f"keep{self.keep_ratio!r}")
        parts += [f"core{self.core_ratio!r}"] if self.core_ratio is not None else []
        parts += [self.pooling] if self.pooling else []
        parts += [f"seed{self.seed}"] if self.seed is not None else []
        return "-".join(parts)

    def setting(self) -> dict[str, Any]:
        """The fields without the task."""
        return {name: value for name, value in asdict(self).items() if name != "task"}


def make_cell(
    task: str, method: str, keep_ratio: float, core_ratio: float | None, pooling: str | None, seed: int = 0
) -> Cell:
    """The cell of a measurement: of the method that this amounts to, see `method_of`.

    Raises:
        ValueError: the method is unknown, or a ratio or the pooling outside what is allowed.
    """
    check_method(method)
    keep_ratio = check_ratio("keep ratio", keep_ratio, zero_allowed=False)
    if core_ratio is not None:
        core_ratio = check_ratio("core ratio", core_ratio, zero_allowed=True)
    if pooling is not None:
        check_choice("pooling", pooling, POOLINGS)
    if method == "original" or keep_ratio == 1:
        return Cell(task, "original")
    found, settings = method_of(method, {"core_ratio": core_ratio, "pooling": pooling, "seed": seed})
    return Cell(task, found.name, keep_ratio, **settings)


def expand_tasks(tasks: Iterable[str]) -> list[str]:
    """Task names with the groups of the embedded benchmark replaced by their tasks, each once."""
    names = [name for task in tasks for name in GROUPS.get(task, (task,))]
    return list(dict.fromkeys(names))


def plan(
    tasks: Sequence[str],
    methods: Sequence[str],
    keep_ratios: Sequence[float],
    core_ratios: Sequence[float],
    pooling: str,
    seed: int = 0,
) -> list[Cell]:
    """Every task under every method at every keep ratio, and "zspa" at every core ratio; each cell once.

    Cells stand task by task, the unpruned model first, so that differences can be told from the start.
    """
    order = sorted(methods, key=lambda method: method != "original")
    cells = [
        make_cell(task, method, keep, core, pooling, seed)
        for task in expand_tasks(tasks)
        for method in order
        for keep in keep_ratios
        for core in (core_ratios if method == "zspa" else (None,))
    ]
    return list(dict.fromkeys(cells))


def table_methods(table: int) -> tuple[str, ...]:
    """What the paper's Table 1, 2 or 4 compares; Table 1 has "random" added."""
    return TABLE_1_METHODS if table == 1 else ("original", "zspa")


def table_plan(table: int, tasks: Sequence[str] | None, core_ratio: float, pooling: str, seed: int = 0) -> list[Cell]:
    """The cells of the paper's Table 1, 2 or 4, as far as they are known before any is measured.

    Table 1 adds the checkpoint's own core ratio to those of the sweep. Table 4 adds poolings at the best core ratio,
    see `pooling_cells`.
    """
    tasks = TABLE_TASKS[table] if tasks is None else tasks
    core_ratios = sorted({*CORE_RATIOS, core_ratio}) if table == 1 else CORE_RATIOS
    return plan(tasks, table_methods(table), [KEEP_RATIO], core_ratios, "mean" if table != 1 else pooling, seed)


def pooling_cells(best: dict[str, float]) -> list[Cell]:
    """Table 4: each pooling at the core ratio that was best for each task."""
    return [make_cell(task, "zspa", KEEP_RATIO, core, pooling) for task, core in best.items() for pooling in POOLINGS]
