"""Per-sample scores out of what lmms-eval logs, so that intervals can be drawn. The metrics are lmms-eval's own."""

from collections.abc import Sequence, Set
from dataclasses import dataclass
from typing import Any

import numpy as np

from .statistics import Aggregate


class ScoreError(RuntimeError):
    """lmms-eval's number is not what its samples add up to."""


@dataclass(frozen=True)
class Score:
    """Rows `(n, k)`, one per sample, and the function that makes them one number of 0 to 100."""

    per_sample: np.ndarray
    aggregate: Aggregate

    @property
    def value(self) -> float:
        return float(self.aggregate(self.per_sample))


def mean(rows: np.ndarray) -> np.ndarray:
    """Mean in per cent of `(..., n, 1)`."""
    return 100 * rows.mean((-2, -1))


def f1(rows: np.ndarray) -> np.ndarray:
    """F1 in per cent of `(..., n, 3)`: true positives, false positives, false negatives."""
    true, false, missed = np.moveaxis(rows.sum(-2), -1, 0)
    return 200 * true / np.maximum(2 * true + false + missed, 1)


def aggregate_of(metric: str) -> Aggregate:
    """How the rows of a metric become one number."""
    return f1 if metric == "pope_f1_score" else mean


def score_of(metric: str, samples: Sequence[dict[str, Any]]) -> Score:
    """The score of lmms-eval's logged samples.

    Raises:
        ValueError: the metric is not a number per sample.
    """
    rows = np.array([_row(metric, sample[metric]) for sample in samples], dtype=float)
    return Score(rows, aggregate_of(metric))


def _row(metric: str, value: Any) -> list[float]:
    if metric == "pope_f1_score":
        said, true = value["prediction"], value["ground_truth"]
        yes = said == "yes"
        return [yes and true == "yes", yes and true == "no", said == "no" and true == "yes"]
    if metric == "mmmu_acc":
        from lmms_eval.tasks.mmmu.utils import evaluate_mmmu

        return [evaluate_mmmu([value])[1]["acc"]]
    if isinstance(value, (bool, int, float, np.number)):
        return [float(value)]
    raise ValueError(f"{metric} is no number per sample but {type(value).__name__}: give tasks with a mean of numbers")


def count_failures(score: Score, metric: str, samples: Sequence[dict[str, Any]], failed: Set[Any]) -> Score:
    """The score with the samples whose `doc_id` is among `failed` counted as wrong.

    lmms-eval scores the text that stands for a failure as if it were an answer: on POPE it is neither a false positive
    nor a false negative, and on MMMU an option is drawn for it.
    """
    rows = score.per_sample.copy()
    for i, sample in enumerate(samples):
        if sample["doc_id"] in failed:
            rows[i] = _wrong(metric, sample[metric])
    return Score(rows, score.aggregate)


def _wrong(metric: str, value: Any) -> list[float]:
    if metric == "pope_f1_score":
        true = value["ground_truth"]
        return [False, true == "no", true == "yes"]
    return [0.0]


def check_against(score: Score, reported: float) -> None:
    """Raises `ScoreError` where lmms-eval's own number, 0 to 1, is another one; MMMU's has five digits."""
    if abs(score.value - 100 * reported) > 1e-3:
        raise ScoreError(f"the samples add up to {score.value:.5f}, but lmms-eval reports {100 * reported:.5f}")
