"""What a setting of the selection may be."""

import math
from functools import partial
from typing import Any

POOLINGS = ("mean", "max", "none")
SCOPES = ("query", "text")
SETTINGS = {  # what each method that travels in a checkpoint reads: the fields of its pruner
    "zspa": ("keep_ratio", "core_ratio", "pooling", "centre"),
    "weighted": ("keep_ratio", "relevance_weight", "pooling", "centre"),
    "dpp": ("keep_ratio", "relevance_weight", "pooling", "centre"),
    "mmtok": ("keep_ratio", "alpha", "tau_vision", "tau_text", "centre"),
}


def round_half_up(value: float) -> int:
    """Nearest integer, halves up; 0.145 · 100 counts as the half it is on paper, not as 14.499… of binary floats."""
    return math.floor(value + 0.5 + 1e-9)


def check_ratio(name: str, value: float, *, zero_allowed: bool) -> float:
    """Returns `value` as a float, or raises `ValueError` naming the field, the value and what is allowed."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not 0 <= value <= 1 or (value == 0 and not zero_allowed):
        allowed = "[0, 1]" if zero_allowed else "(0, 1]"
        raise ValueError(f"{name} is {value!r}, but must be a number in {allowed}")
    return float(value)


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> str:
    """Returns `value`, or raises `ValueError` naming the field, the value and the choices."""
    if value not in choices:
        raise ValueError(f"{name} is {value!r}, but must be {' or '.join(map(repr, choices))}")
    return value


def check_weight(name: str, value: Any) -> None:
    """Raises `ValueError` naming the field and the value where that is no number from -1 to 1."""
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not -1 <= value <= 1:
        raise ValueError(f"{name} is {value!r}, but must be a number in [-1, 1]")


def check_bool(name: str, value: Any) -> None:
    """Raises `ValueError` naming the field and the value where that is neither true nor false."""
    if not isinstance(value, bool):
        raise ValueError(f"{name} is {value!r}, but must be True or False")


def check_positive(name: str, value: Any) -> None:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 < value < math.inf:
        raise ValueError(f"{name} is {value!r}, but must be a positive number")


CHECKS: dict[str, Any] = {
    "keep_ratio": partial(check_ratio, zero_allowed=False),
    "core_ratio": partial(check_ratio, zero_allowed=True),
    "relevance_weight": check_weight,
    "pooling": partial(check_choice, choices=POOLINGS),
    "centre": check_bool,
    "alpha": check_positive,
    "tau_vision": check_positive,
    "tau_text": check_positive,
}


def settings_of(method: str) -> tuple[str, ...]:
    """The names of the settings that a method reads, as arguments of its pruner.

    Raises:
        ValueError: there is no such method.
    """
    return SETTINGS[check_choice("method", method, tuple(SETTINGS))]
