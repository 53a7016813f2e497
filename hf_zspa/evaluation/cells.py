"""What a sweep consists of: cells, one task under one method with its ratios, and the plans of the paper's tables."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from typing import Any

from ..pruners.registry import check_method, method_of
from ..remote_code.zspa_checks import CHECKS, POOLINGS
from ..scenes.domains import DOMAINS

KEEP_RATIO = 0.1  # the paper's tables
CORE_RATIOS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)  # the paper's Table 2 and Figure 3
TABLE_1_METHODS = ("original", "relevance", "divprune", "zspa", "random")
TOKEN_RATIOS = tuple(tokens / 576 for tokens in (192, 128, 64, 32))  # what papers keep of LLaVA-1.5's
TOKEN_METHODS = (
    "original", "resized", "tome", "random", "divprune", "par", "conditional_dpp", "mmtok", "weighted", "zspa",
)  # fmt: skip
TABLE_TASKS: dict[int | str, tuple[str, ...]] = {
    1: ("mmmu_val", "gqa", "ai2d", "pope", "textvqa_val", "chartqa"),
    2: ("mmmu_val", "gqa", "pope"),
    4: ("mmmu_val", "pope"),
    "tokens": ("gqa", "pope", "textvqa_val", "mmmu_val"),
}
GROUPS = {
    group: tuple(f"{group}_{kind}" for kind in domain.kinds)
    for group, domain in zip(("zspa_scenes", "zspa_scenes_varied", "zspa_scenes_photo"), DOMAINS.values(), strict=True)
}


@dataclass(frozen=True, order=True)
class Cell:
    """One measurement; a field that the method does not read is None, so that equal measurements are equal cells."""

    task: str
    method: str
    keep_ratio: float = 1.0
    core_ratio: float | None = None
    pooling: str | None = None
    seed: int | None = None
    relevance_weight: float | None = None
    centre: bool | None = None

    @property
    def name(self) -> str:
        """A file name of its own, such as `pope-zspa-keep0.1-core0.2-mean`; ratios have all their digits."""
        return self._called(repr)

    @property
    def label(self) -> str:
        """The name for people, with rounded ratios."""
        return self._called("{:.3g}".format)

    def _called(self, number: Callable[[float], str]) -> str:
        parts = [self.task, self.method]
        if self.method != "original":
            parts.append(f"keep{number(self.keep_ratio)}")
        parts += [f"core{number(self.core_ratio)}"] if self.core_ratio is not None else []
        parts += [f"weight{number(self.relevance_weight)}"] if self.relevance_weight is not None else []
        parts += [self.pooling] if self.pooling else []
        parts += ["centred"] if self.centre else []
        parts += [f"seed{self.seed}"] if self.seed is not None else []
        return "-".join(parts)

    def setting(self) -> dict[str, Any]:
        """The fields without the task."""
        return {name: value for name, value in asdict(self).items() if name != "task"}


def make_cell(task: str, method: str, keep_ratio: float, **settings: Any) -> Cell:
    """The cell of a measurement: of the method that this amounts to, see `method_of`.

    Args:
        settings: those of `PRUNER_SETTINGS` that are known; the others are the checkpoint's own.

    Raises:
        ValueError: the method is unknown, or the keep ratio or a setting outside what is allowed.
    """
    check_method(method)
    for name, value in {"keep_ratio": keep_ratio, **settings}.items():
        if name in CHECKS:
            CHECKS[name](name.replace("_", " "), value)
    if method == "original" or keep_ratio == 1:
        return Cell(task, "original")
    found, read = method_of(method, settings)
    return Cell(task, found.name, keep_ratio, **read)


def expand_tasks(tasks: Iterable[str]) -> list[str]:
    """Task names with the groups of the embedded benchmark replaced by their tasks, each once."""
    names = [name for task in tasks for name in GROUPS.get(task, (task,))]
    return list(dict.fromkeys(names))


def plan(
    tasks: Sequence[str],
    methods: Sequence[str],
    keep_ratios: Sequence[float],
    settings: Mapping[str, Sequence[Any]],
) -> list[Cell]:
    """Every task under every method at every keep ratio, with all values of the settings that it reads; each cell once.

    Cells stand task by task, the unpruned model first, so that differences can be told from the start.
    """
    cells = []
    order = sorted(methods, key=lambda method: method != "original")
    for task, method, keep in product(expand_tasks(tasks), order, keep_ratios):
        read = {name: values for name, values in settings.items() if name in check_method(method).reads}
        cells += [make_cell(task, method, keep, **dict(zip(read, values))) for values in product(*read.values())]
    return list(dict.fromkeys(cells))


def table_methods(table: int | str, own: str = "zspa") -> tuple[str, ...]:
    """What the paper's Table 1, 2 or 4 compares, or the table "tokens"; Table 1 has "random" and the checkpoint's own
    method added."""
    compared = {1: (*TABLE_1_METHODS, own), "tokens": (*TOKEN_METHODS, own)}.get(table, ("original", "zspa"))
    return tuple(dict.fromkeys(compared))


def table_plan(
    table: int | str, tasks: Sequence[str], settings: Mapping[str, Sequence[Any]], own: str = "zspa"
) -> list[Cell]:
    """The cells of the paper's Table 1, 2 or 4, as far as they are known before any is measured.

    Table 1 adds the core ratios of `settings` to those of the sweep. Table 4 adds poolings at the best core ratio, see
    `pooling_cells`.
    """
    swept: dict[str, Sequence[Any]] = {**settings, "core_ratio": CORE_RATIOS}
    swept |= {"core_ratio": sorted({*CORE_RATIOS, *settings["core_ratio"]})} if table == 1 else {"pooling": ["mean"]}
    return plan(tasks, table_methods(table, own), [KEEP_RATIO], swept)


def pooling_cells(best: Iterable[Cell]) -> list[Cell]:
    """Table 4: each pooling at the core ratio that was best for each task."""
    return [replace(cell, pooling=pooling) for cell in best for pooling in POOLINGS]
