"""What is said of several measurements: medians, how far they spread, and how sure a ratio of two methods is."""

import math
import random
import statistics
from collections.abc import Iterable, Sequence
from itertools import permutations
from typing import Any

_CONFIDENCE = 0.95


def spread(values: Iterable[float]) -> dict[str, Any]:
    """Median, mean and quartiles in milliseconds of times in seconds."""
    found = [1e3 * value for value in values]
    low, middle, high = statistics.quantiles(found, n=4, method="inclusive") if len(found) > 1 else found * 3
    return {
        "median": round(middle, 3),
        "mean": round(statistics.mean(found), 3),
        "quartiles": [round(low, 3), round(high, 3)],
    }


def paired_ratio(own: Sequence[float], other: Sequence[float]) -> dict[str, Any]:
    """`{"median": …, "interval": [low, high]}` of the ratios of times that were taken in the same round."""
    ratios = [a / b for a, b in zip(own, other, strict=True)]
    interval = median_interval(ratios)
    return {"median": round(statistics.median(ratios), 4), "interval": interval and [round(x, 4) for x in interval]}


def median_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """The interval between two of the values that holds the median of what they are drawn from in 95 of 100 cases at
    least, whatever their distribution, if they are drawn independently (the interval of the sign test). None for fewer
    than 6, which have none."""
    count, outside = len(values), 0
    tail = 0.0
    while (tail := tail + math.comb(count, outside) / 2**count) <= (1 - _CONFIDENCE) / 2:
        outside += 1
    ordered = sorted(values)
    return (ordered[outside - 1], ordered[count - outside]) if outside else None


def in_turn(methods: Iterable[str], turn: int) -> Sequence[str]:
    """The methods in the order of a round: of all orders there are one after the other, drawn at random, so that in as
    many rounds as there are orders each has come after each other equally often. What came before is part of what a
    time depends on."""
    orders = list(permutations(methods))
    random.Random(0).shuffle(orders)
    return orders[turn % len(orders)]
