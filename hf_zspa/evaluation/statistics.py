"""Bootstrap intervals of scores and of paired differences.

A score is made of rows, one per sample, `(n, k)`, by an aggregate that takes `(..., n, k)` to `(...)`: the mean for an
accuracy (k = 1), or F1 from columns of true positives, false positives and false negatives.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

Aggregate = Callable[[np.ndarray], np.ndarray]
Part = tuple[np.ndarray, Aggregate]
RESAMPLES = 2000
LEVEL = 0.95
_NUMBERS_AT_ONCE = 1 << 22


@dataclass(frozen=True)
class Difference:
    """A difference and its interval. As text, in Markdown, it has a star where the interval leaves out 0."""

    value: float
    low: float
    high: float

    @property
    def is_clear(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.low > 0 or self.high < 0

    def __str__(self) -> str:
        star = "\\*" if self.is_clear else ""
        return f"{self.value:+.1f}{star} ({self.low:+.1f} to {self.high:+.1f})"


def bootstrap_interval(
    per_sample: np.ndarray,
    aggregate: Aggregate,
    *,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile bootstrap interval of `aggregate(per_sample)`, with samples `(n, k)` drawn with replacement."""
    return average_interval([(per_sample, aggregate)], resamples=resamples, level=level, seed=seed)


def average_interval(
    parts: Sequence[Part], *, resamples: int = RESAMPLES, level: float = LEVEL, seed: int = 0
) -> tuple[float, float]:
    """Interval of the unweighted mean of several scores, each resampled by itself."""
    values = np.mean([_resampled(rows, [aggregate], [rows], resamples, seed + i)[0]
                      for i, (rows, aggregate) in enumerate(parts)], axis=0)  # fmt: skip
    return _percentiles(values, level)


def paired_difference(
    a: np.ndarray,
    b: np.ndarray,
    aggregate: Aggregate,
    *,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> Difference:
    """The score of `a` minus that of `b`, `(n, k)` each, where row i of both is the same sample.

    Raises:
        ValueError: they have different numbers of samples.
    """
    return average_difference([(a, aggregate)], [(b, aggregate)], resamples=resamples, level=level, seed=seed)


def average_difference(
    parts_a: Sequence[Part],
    parts_b: Sequence[Part],
    *,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> Difference:
    """The difference of unweighted means over several scores; the samples of each pair are drawn together."""
    drawn, value = [], 0.0
    for i, ((a, aggregate_a), (b, aggregate_b)) in enumerate(zip(parts_a, parts_b, strict=True)):
        if len(a) != len(b):
            raise ValueError(f"paired scores need the same samples, but there are {len(a)} and {len(b)}")
        ours, theirs = _resampled(a, [aggregate_a, aggregate_b], [a, b], resamples, seed + i)
        drawn.append(ours - theirs)
        value += float(aggregate_a(a) - aggregate_b(b)) / len(parts_a)
    low, high = _percentiles(np.mean(drawn, axis=0), level)
    return Difference(value, low, high)


def _resampled(
    samples: np.ndarray, aggregates: list[Aggregate], rows: list[np.ndarray], resamples: int, seed: int
) -> list[np.ndarray]:
    """Scores `(resamples,)` of each of `rows`, all of them with the same draws."""
    found: list[list[np.ndarray]] = [[] for _ in rows]
    for draws in _draws(len(samples), resamples, seed):
        for values, aggregate, some in zip(found, aggregates, rows):
            values.append(np.asarray(aggregate(some[draws])))
    return [np.concatenate(values) for values in found]


def _draws(n: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Indices `(some, n)`, as many at once as memory allows."""
    if n == 0:
        raise ValueError("there are no samples to draw from")
    rng = np.random.default_rng(seed)
    while resamples > 0:
        some = min(resamples, max(1, _NUMBERS_AT_ONCE // n))
        yield rng.integers(n, size=(some, n))
        resamples -= some


def _percentiles(values: np.ndarray, level: float) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def average_stages(parts: Sequence[dict[str, float]]) -> dict[str, float]:
    """The mean of what each stage takes."""
    return {name: round(sum(part[name] for part in parts) / len(parts), 2) for name in parts[0]}
