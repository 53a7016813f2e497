"""What was measured, for people: a table, a verdict and a plot."""

from pathlib import Path
from typing import Any

import numpy as np

from ..output import markdown_table, save_plot
from .choice import interval
from .tune import Tuning

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")  # Okabe and Ito


def verdict(tuning: Tuning) -> str:
    """What is chosen, in a line."""
    chosen, each = tuning.chosen, ", one about each picture" if tuning.shared else ""
    if chosen is None:
        largest = tuning.judged[-1]
        enough = largest.stay >= tuning.agreement * largest.rows  # but for the few rows, which leave the bound low
        more = "; if as large a share of more pictures stays, it will do" if enough else ""
        return (
            f"no keep ratio that was tried is sure to leave {_percent(tuning.agreement)} of the answers as they are "
            f"(at {tuning.keep_ratios[-1]:g}, {largest.stay} of {largest.rows} stay{each}): keep ratio 1.0, no "
            f"pruning, is the honest answer{more}"
        )
    return (
        f"keep ratio {tuning.keep_ratios[chosen.keep_ratio]:g} is the smallest that leaves "
        f"{_percent(tuning.agreement)} of the answers as they are, by {tuning.settings[chosen.setting]}: "
        f"{chosen.stay} of {chosen.rows} stay{each}, so at least {_percent(chosen.bound)} with 95 % confidence"
    )


def summary(tuning: Tuning) -> str:
    """The best setting of each keep ratio, as a table in Markdown, beside the checkpoint's own."""
    reaches = f"reaches {tuning.agreement:g}"
    header = ("keep ratio", "best setting", "answers that stay", "at least", "its own", reaches)
    rows = []
    for each in tuning.judged:
        own = int(tuning.measured.whole[each.keep_ratio, 0, tuning.judging].sum())
        cells = (
            f"{tuning.keep_ratios[each.keep_ratio]:g}", str(tuning.settings[each.setting]),
            f"{each.stay} of {each.rows}", _percent(each.bound), f"{own} of {each.rows}",
            "yes" if each.reaches else "–",
        )  # fmt: skip
        rows.append(cells)
    return markdown_table(header, rows)


def markdown(tuning: Tuning, checkpoint: str) -> str:
    """The whole report."""
    rows = [
        [f"{row['keep_ratio']:g}", row["setting"], *(_shown(row[name], 100) for name in ("whole", "tokens")),
         _shown(row["kl"], 1)]
        for row in tuning.candidates()
    ]  # fmt: skip
    header = ("keep ratio", "setting", "whole answers that stay, %", "tokens that stay, %", "KL divergence, nats")
    judging, about, counted, over = len(tuning.judging), "", "", "rows"
    if tuning.shared:
        about, counted, over = f" about {tuning.pictures} pictures", "one row about each of ", "pictures"
    return (
        f"# {checkpoint}, tuned on {len(tuning.measured.tokens)} rows{about}\n\n{verdict(tuning)}.\n\n{summary(tuning)}"
        f"\n\nSettings were chosen on {len(tuning.choosing)} rows; the counts are of {counted}the other {judging}"
        f"{' pictures' if counted else ''}. At least: the one-sided 95 % bound of Clopper and Pearson. Keep ratios are "
        "judged from the largest on, up to the first that does not reach the aim.\n\n## All candidates\n\nOn all rows, "
        f"with 95 % intervals over {over}.\n\n"
        f"{markdown_table(header, rows)}\n"
    )


def plot(tuning: Tuning, path: Path) -> bool:
    """Whole answers that stay against keep ratio, the best setting of each method, on the rows that judge; False, and
    no file, without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return False
    figure = Figure(figsize=(7, 4.5), dpi=150, layout="constrained")
    axes = figure.subplots()
    whole = tuning.measured.whole
    merit = whole[:, :, tuning.choosing].mean((0, 2))
    methods = list(dict.fromkeys(setting.method for setting in tuning.settings))
    for place, (colour, method) in enumerate(zip(_COLOURS, methods)):
        mine = [s for s, setting in enumerate(tuning.settings) if setting.method == method]
        best = max(mine, key=lambda s: merit[s])
        n = len(tuning.judging)
        counts = [int(count) for count in whole[:, best, tuning.judging].sum(1)]
        shares = np.array(counts) / n
        bars = np.abs(np.array([interval(count, n) for count in counts]).T - shares)
        beside = 1.02 ** (place - (len(methods) - 1) / 2)  # equal ones stay visible
        axes.errorbar(
            np.array(tuning.keep_ratios) * beside, shares, bars, fmt="o-", markersize=4, elinewidth=1, capsize=2,
            color=colour, label=str(tuning.settings[best]),
        )  # fmt: skip
    axes.axhline(tuning.agreement, color="#777777", linestyle=":", linewidth=1, label="the aim")
    axes.set_xscale("log")
    axes.set_xticks(tuning.keep_ratios, [f"{ratio:g}" for ratio in tuning.keep_ratios])
    axes.set_xticks([], minor=True)
    axes.set_xlabel("share of visual tokens kept")
    axes.set_ylabel("share of whole answers that stay")
    axes.set_title(f"{len(tuning.judging)} rows, 95 % intervals")
    axes.grid(alpha=0.25)
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=8)
    save_plot(figure, path)
    return True


def _shown(figure: dict[str, Any], scale: float) -> str:
    value, low, high = (each * scale for each in (figure["value"], *figure["interval"]))
    digits = 1 if scale > 1 else 3
    return f"{value:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
