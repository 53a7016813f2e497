"""Pictures of a sweep: score against core ratio, as the paper's Figure 3, and score against keep ratio."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..output import save_plot
from ..pruners.registry import BASELINES, METHODS
from ..version import install_command
from .tables import setting

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Row = dict[str, Any]
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")  # Okabe and Ito
_MARKERS = "osD^vPX"
# A colour (most of Paul Tol's "muted"), a marker and a line of each method; dashed are those that never travel.
LOOKS = {
    "relevance": ("#CC6677", "s", "-"),
    "divprune": ("#117733", "D", "-"),
    "zspa": ("#332288", "o", "-"),
    "weighted": ("#D55E00", "^", "-"),
    "dpp": ("#000000", "X", "-"),
    "conditional_dpp": ("#AA4499", "v", "-"),
    "mmtok": ("#88CCEE", "P", "-"),
    "par": ("#44AA99", "*", "--"),
    "tome": ("#DDCC77", "<", "--"),
    "resized": ("#882255", ">", "--"),
    "random": ("#999933", "h", "--"),
}


def plot_core_ratio(rows: Sequence[Row], path: Path) -> bool:
    """Score against core ratio, a line per task, the unpruned score dotted; False where there are no two points.

    The ends are the registry's baselines. Of several keep ratios and poolings those with most points are drawn.
    """
    points = [row for row in rows if _core_ratio(row) is not None and row["pooling"] in (None, _pooling(rows))]
    keep = _most_common([row["keep_ratio"] for row in points if row["method"] == "zspa"])
    lines: dict[str, list[tuple[float, Row]]] = {}
    for row in points:
        if row["keep_ratio"] == keep:
            lines.setdefault(row["task"], []).append((_core_ratio(row), row))
    lines = {task: sorted(found, key=lambda pair: pair[0]) for task, found in lines.items()}
    if not any(len(found) > 1 for found in lines.values()):
        return False
    figure, axes = _figure(7, 4.5)
    for i, (task, found) in enumerate(lines.items()):
        look = _COLOURS[i % len(_COLOURS)], _MARKERS[i % len(_MARKERS)], "-" if i < len(_COLOURS) else "--"
        _draw(axes, found, look, task, shade=0.15 if len(lines) <= 3 else 0.06)
        for row in rows:
            if row["task"] == task and row["method"] == "original":
                axes.axhline(row["value"], color=look[0], linestyle=":", linewidth=1)
    ends = [f"{end.core_ratio:g}: {end.label}" for end in BASELINES]
    axes.set_xlabel(f"core ratio ({', '.join(ends)})")
    axes.set_ylabel("score, %")
    axes.set_title(f"{100 * keep:g} % of the visual tokens kept; dotted: all of them")
    _finish(figure, axes, path)
    return True


def plot_keep_ratio(rows: Sequence[Row], path: Path) -> bool:
    """Score against keep ratio, a line per method, for the average of an embedded group or else task by task.

    Of several settings of a method that with most points is drawn. Returns False, and draws nothing, where no method
    has two points.
    """
    averages = [row for row in rows if row["task"].endswith("average")]
    chosen = averages or list(rows)
    named: dict[str, list[str]] = {}
    for row in chosen:
        if row["method"] != "original":
            named.setdefault(row["method"], []).append(setting(row, keep=False))
    settings = [_most_common(found) for found in named.values()]
    lines: dict[str, dict[str, list[tuple[float, Row]]]] = {row["task"]: {} for row in chosen}
    for row in sorted(chosen, key=lambda row: row["keep_ratio"]):
        if (name := setting(row, keep=False)) in settings:
            lines[row["task"]].setdefault(name, []).append((row["keep_ratio"], row))
    if not any(len(found) > 1 for of_task in lines.values() for found in of_task.values()):
        return False
    columns = min(3, len(lines))
    figure, grid = _figure(7 if columns == 1 else 4.2 * columns, 4.2 * -(-len(lines) // columns), len(lines), columns)
    for axes, (task, found) in zip(grid, lines.items()):
        for method, name in zip(named, settings):
            if name in found:
                _draw(axes, found[name], LOOKS[method], name)
        for row in chosen:
            if row["task"] == task and row["method"] == "original":
                axes.axhline(row["value"], color="#777777", linestyle=":", linewidth=1, label=METHODS["original"].label)
        axes.set_xlabel("share of visual tokens kept")
        axes.set_ylabel("score, %")
        axes.set_title(task.replace("_", " "))
    _finish(figure, grid[0], path)
    return True


def _core_ratio(row: Row) -> Any:
    """Where a row stands on the dial of "zspa"; None where it has no place there."""
    fixed = METHODS[row["method"]].core_ratio
    return row["core_ratio"] if fixed is None else fixed


def _pooling(rows: Sequence[Row]) -> str | None:
    return _most_common([row["pooling"] for row in rows if row["pooling"] is not None])


def _most_common(values: Sequence[Any]) -> Any:
    return max(dict.fromkeys(values), key=list(values).count, default=None)


def _figure(width: float, height: float, count: int = 0, columns: int = 1) -> tuple["Figure", Any]:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ValueError(f"plots need matplotlib: {install_command(extra='eval')}") from error
    figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
    if not count:
        return figure, figure.subplots()
    grid = figure.subplots(-(-count // columns), columns, squeeze=False).flatten()
    for spare in grid[count:]:
        spare.set_visible(False)
    return figure, list(grid[:count])


def _draw(
    axes: "Axes", points: Sequence[tuple[float, Row]], look: tuple[str, str, str], label: str, shade: float = 0.15
) -> None:
    """A line with its intervals as a band; a look is a colour, a marker and a style of line."""
    colour, marker, line = look
    x = [place for place, _ in points]
    axes.plot(
        x,
        [row["value"] for _, row in points],
        label=label.removeprefix("zspa_scenes").lstrip("_ ").replace("_", " "),
        linestyle=line,
        markersize=4,
        color=colour,
        marker=marker,
    )
    low, high = zip(*(row["interval"] for _, row in points))
    axes.fill_between(x, low, high, color=colour, alpha=shade, linewidth=0)


def _finish(figure: "Figure", axes: "Axes", path: Path) -> None:
    for each in figure.axes:
        each.grid(alpha=0.25)
        each.spines[["top", "right"]].set_visible(False)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right upper", frameon=False, fontsize=8)
    save_plot(figure, path)
