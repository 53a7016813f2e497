"""What chooses the tokens: what the checkpoint says, or a pruner of somebody else's that the engine was started with.

A package offers one by an entry point in the group `hf_zspa.pruners`: a class, or a function, that makes a
`VisualTokenPruner` of a keep ratio. `--hf-overrides '{"zspa_engine_pruner": "its-name"}'` takes it; a checkpoint, which
must do the same everywhere, cannot.
"""

from collections.abc import Mapping
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from ..remote_code.zspa_methods import pruner_from_config
from ..remote_code.zspa_selection import VisualTokenPruner

FIELD = "zspa_engine_pruner"
GROUP = "hf_zspa.pruners"
_NAME = "_hf_zspa_engine_pruner"  # where the config keeps it, which no check takes for a field of a checkpoint


def pruner_of(config: Any, settings: Mapping[str, Any]) -> VisualTokenPruner | None:
    """The pruner of a request with these settings; None where nothing is pruned.

    Raises:
        ValueError: a setting is outside its range, or one that the engine's pruner does not read.
    """
    own = pruner_from_config(config, **settings)
    name = engine_pruner(config)
    if name is None:
        return own
    if others := [setting for setting in settings if setting != "zspa_keep_ratio"]:
        raise ValueError(f"{others[0]} is not for the engine's pruner {name!r}, which reads zspa_keep_ratio alone")
    return None if own is None else _made(name, own.keep_ratio)


def engine_pruner(config: Any) -> str | None:
    """The name of the pruner that the engine was started with."""
    return getattr(config, _NAME, None)


def take_engine_pruner(config: Any, overrides: Any) -> None:
    """Takes it from the config's fields.

    Raises:
        ValueError: it is not installed, or was named by the checkpoint itself.
    """
    name = getattr(config, FIELD, None)
    if name is None:
        return
    if not isinstance(overrides, Mapping) or FIELD not in overrides:
        raise ValueError(f"config.json has {FIELD}, which is for --hf-overrides alone: take it out")
    if name not in _installed():
        known = ", ".join(sorted(_installed())) or "none is"
        raise ValueError(f"{FIELD} is {name!r}, which no installed package offers as one of {GROUP}: {known}")
    _made(name, 0.5)
    setattr(config, _NAME, name)
    delattr(config, FIELD)


def _installed() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}


@lru_cache(64)  # requests choose the ratio
def _made(name: str, keep_ratio: float) -> VisualTokenPruner:
    try:
        pruner = _installed()[name].load()(keep_ratio)
    except Exception as error:
        raise ValueError(f"{FIELD} {name!r} cannot be made: {type(error).__name__}: {error}") from error
    if not callable(pruner) or not callable(getattr(pruner, "budget", None)):
        raise ValueError(f"{FIELD} {name!r} makes a {type(pruner).__name__}, which lacks budget(n) or __call__")
    return pruner


def budget_of(pruner: VisualTokenPruner, n: int) -> int:
    """How many of an image's tokens a pruner keeps.

    Raises:
        ValueError: it says something else than a number of them.
    """
    try:
        budget: Any = pruner.budget(n)
    except Exception as error:
        budget = error
    if isinstance(budget, bool) or not isinstance(budget, int) or not 1 <= budget <= n:
        raise ValueError(f"budget({n}) of {type(pruner).__name__} is {budget!r}, but must be an integer from 1 to {n}")
    return budget
