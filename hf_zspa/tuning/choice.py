"""What is chosen of measured candidates, and how sure that is.

The pictures are halved. On the rows about one half the best setting of each keep ratio is found; on one row about each
picture of the other those are judged, from the largest keep ratio to the smallest, until one does not reach the aim. In
that order each test can have the full 5 %: the first false pass needs an error at the one place where passing turns
false (fixed-sequence testing).
"""

import math
import random
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np

LEVEL = 0.95
LUCK = 1 / 3  # the chance that equals look so different, above which the checkpoint's own setting is not left


@dataclass(frozen=True)
class Judged:
    """The best setting of one keep ratio, on rows that had no part in finding it.

    Attributes:
        keep_ratio: its place among those tried.
        setting: its place among those tried.
        stay: of how many of the judging `rows` the whole answer stays.
        bound: the share of all such rows that it is at least, with 95 % confidence.
        reaches: whether the bound reaches the aim, here and at every larger keep ratio.
    """

    keep_ratio: int
    setting: int
    stay: int
    rows: int
    bound: float
    reaches: bool


def judge(
    whole: np.ndarray, kl: np.ndarray, choosing: Sequence[int], judging: Sequence[int], agreement: float
) -> list[Judged]:
    """The best setting of each keep ratio: of most whole answers on the choosing rows, of equals the least divergence.

    Beside the checkpoint's own only those count that are ahead of it by more than luck (a sign test of the answers that
    stay by one of the two alone): on few rows the best of many looks better than it is.

    Args:
        whole: `(keep ratios, settings, rows)` bool, whether the answer stays; keep ratios ascend, the first setting is
            the checkpoint's own.
        kl: the same shape, the divergence.

    Returns:
        One per keep ratio, ascending.
    """
    found: list[Judged] = []
    reaches = True
    for place in reversed(range(len(whole))):
        kept, divergence = whole[place][:, choosing], kl[place][:, choosing].mean(1)
        ahead = [s for s in range(1, len(kept)) if _ahead(kept[s], kept[0])]
        best = min([0, *ahead], key=lambda s: (-kept[s].mean(), divergence[s]))
        stay = int(whole[place, best, judging].sum())
        bound = lower_bound(stay, len(judging))
        reaches = reaches and bound >= agreement
        found.append(Judged(place, best, stay, len(judging), bound, reaches))
    return found[::-1]


def _ahead(other: np.ndarray, own: np.ndarray) -> bool:
    """Whether equals would rarely look so different."""
    gained, lost = int((other & ~own).sum()), int((own & ~other).sum())
    return _tail(gained, gained + lost, 0.5) <= LUCK


def lower_bound(stay: int, n: int, level: float = LEVEL) -> float:
    """The one-sided Clopper-Pearson bound: the share at which `stay` or more of `n` have probability `1 - level`."""
    return _crossing(lambda share: _tail(stay, n, share) < 1 - level) if stay else 0.0


def interval(stay: int, n: int, level: float = LEVEL) -> tuple[float, float]:
    """The two-sided Clopper-Pearson interval of `stay` of `n`."""
    one_sided = (1 + level) / 2
    return lower_bound(stay, n, one_sided), 1 - lower_bound(n - stay, n, one_sided)


def rows_needed(agreement: float, level: float = LEVEL) -> int:
    """How many rows, all of them as they were, put the bound at `agreement`: the least n with `agreement^n <= 5 %`."""
    return max(1, math.ceil(math.log(1 - level) / math.log(agreement) - 1e-9))


def halves(images: Sequence[Hashable], seed: int = 0) -> tuple[list[int], list[int]]:
    """The rows to choose on and those to judge on, as indices.

    Half of the images judge. Of each of them one row does, drawn at random: the bound counts rows as independent, which
    several about one image are not. All rows about the others choose.

    Args:
        images: which image each row is about.
    """
    rows_about: dict[Hashable, list[int]] = {}
    for row, image in enumerate(images):
        rows_about.setdefault(image, []).append(row)
    order, rng = list(rows_about), random.Random(seed)
    rng.shuffle(order)
    half = (len(order) + 1) // 2
    judging = [rng.choice(rows_about[image]) for image in order[:half]]
    return sorted(row for image in order[half:] for row in rows_about[image]), sorted(judging)


def check_rows(agreement: float, images: Sequence[Hashable], asked: str = "agreement") -> None:
    """Raises `ValueError` where rows are about too few images to show an agreement, or the agreement is none; `asked`
    is what the message calls it."""
    if not 0 < agreement < 1:
        raise ValueError(f"{asked} is {agreement:g}, but must be between 0 and 1, such as 0.98")
    choosing, judging = halves(images)
    needed = rows_needed(agreement)
    if len(judging) < needed:
        shown = math.floor(1000 * (1 - LEVEL) ** (1 / max(1, len(judging)))) / 1000
        raise ValueError(
            f"{asked} {agreement:g} needs {needed} pictures to judge on, so {2 * needed - 1} in all, and these rows "
            f"are about {len(set(images))}: even if all answers stayed, the 95 % bound would be at {shown:g}; give "
            f"rows about more, or a lower {asked}"
        )
    if not choosing:
        raise ValueError("all rows are about one image: give rows about two at least, to choose on one and judge on")


def _tail(stay: int, n: int, share: float) -> float:
    """The probability of `stay` or more of `n`, each with probability `share` in (0, 1)."""
    log, other = math.log(share), math.log1p(-share)
    terms = (
        math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) + k * log + (n - k) * other
        for k in range(stay, n + 1)
    )
    return math.fsum(map(math.exp, terms))


def _crossing(below: Callable[[float], bool]) -> float:
    """Where in (0, 1) a condition that holds up to there ceases to."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if below(middle) else (low, middle)
    return low
