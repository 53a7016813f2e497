"""The methods an evaluation compares, by name."""

from collections.abc import Sequence
from typing import Any

from ..remote_code.zspa_selection import VisualTokenPruner, ZspaPruner, check_ratio
from .conditional_dpp import ConditionalDppPruner
from .mmtok import MmtokPruner
from .random_subset import RandomPruner

METHODS = ("original", "relevance", "divprune", "zspa", "random", "conditional_dpp", "mmtok")

# The methods that read a setting.
READERS: dict[str, tuple[str, ...]] = {
    "keep_ratio": METHODS[1:],
    "core_ratio": ("zspa",),
    "pooling": ("relevance", "zspa"),
    "prompt_scope": ("relevance", "zspa", "conditional_dpp", "mmtok"),
    "position_ids": METHODS[1:],
    "seed": ("random",),
}


def unread(settings: dict[str, Any], methods: Sequence[str]) -> list[str]:
    """The settings that are given, not None, but which none of the methods reads."""
    return [name for name, value in settings.items() if value is not None and not set(methods) & set(READERS[name])]


def check_method(method: str) -> str:
    """Returns `method`, or raises `ValueError` that names it and lists the methods."""
    if method not in METHODS:
        raise ValueError(f"there is no method {method!r}: choose from {', '.join(METHODS)}")
    return method


def make_pruner(
    method: str, *, keep_ratio: float, core_ratio: float = 0.2, pooling: str = "mean", seed: int = 0
) -> VisualTokenPruner | None:
    """The pruner of a method; None for "original" and for keep ratio 1, which are the stock model.

    Args:
        method: one of `METHODS`. "relevance" and "divprune" are the paper's baselines: core ratio 1 and 0.
        keep_ratio: share of each image's tokens kept, in (0, 1].
        core_ratio: share of the kept tokens chosen by relevance, in [0, 1]; "zspa" alone reads it.
        pooling: how prompt tokens are aggregated; "zspa" and "relevance" read it.
        seed: what "random" draws from.

    Raises:
        ValueError: the method is unknown, or a parameter outside its range.
    """
    check_method(method)
    check_ratio("keep_ratio", keep_ratio, zero_allowed=False)
    if method == "original" or keep_ratio == 1:
        return None
    if method == "random":
        return RandomPruner(keep_ratio, seed)
    if method == "conditional_dpp":
        return ConditionalDppPruner(keep_ratio)
    if method == "mmtok":
        return MmtokPruner(keep_ratio)
    return ZspaPruner(keep_ratio, {"relevance": 1.0, "divprune": 0.0, "zspa": core_ratio}[method], pooling)
