"""The methods of selection by name: one record each, read by whatever compares, draws, names or runs them."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ..remote_code.zspa_selection import VisualTokenPruner, ZspaPruner, check_ratio
from .conditional_dpp import ConditionalDppPruner
from .mmtok import MmtokPruner
from .published_divprune import PublishedDivPrune
from .random_subset import RandomPruner

_PRUNER_SETTINGS = ("core_ratio", "pooling", "seed")
_ALWAYS_READ = ("keep_ratio", "position_ids")  # by every method that prunes


class OwnZspaPruner(ZspaPruner):
    """This package's pruner for a checkpoint's model, to which it is another's: not checked, as little as its own."""

    vouches_for_indices = True


@dataclass(frozen=True)
class Method:
    """A way to choose the visual tokens to keep.

    Attributes:
        name: what commands, results and file names call it.
        label: what pages and pictures call it.
        pruner: its pruner's class, of a keep ratio and of those settings that it reads; None where nothing is pruned.
        reads: the settings it reads, beside those that every method that prunes reads.
        core_ratio: for the two ends of the core ratio of "zspa", which the paper has as baselines of their own.
        travels: whether a checkpoint's own code has it.
    """

    name: str
    label: str
    pruner: Callable[..., VisualTokenPruner] | None = None
    reads: tuple[str, ...] = ()
    core_ratio: float | None = None
    travels: bool = False

    def make(self, keep_ratio: float, **settings: Any) -> VisualTokenPruner:
        """Its pruner; of the settings it takes those that it reads.

        Raises:
            ValueError: it prunes nothing, or a setting is outside its range.
        """
        if self.pruner is None:
            raise ValueError(f"the method {self.name!r} has no pruner: choose from {', '.join(readers('keep_ratio'))}")
        fixed = {} if self.core_ratio is None else {"core_ratio": self.core_ratio}
        return self.pruner(keep_ratio, **fixed, **{name: settings[name] for name in settings if name in self.reads})

    def all_settings(self) -> tuple[str, ...]:
        """The names of all settings it reads."""
        return self.reads if self.pruner is None else (*_ALWAYS_READ, *self.reads)


METHODS = {
    method.name: method
    for method in (
        Method("original", "all tokens"),
        Method(
            "relevance", "relevance alone", OwnZspaPruner, ("pooling", "prompt_scope"), core_ratio=1.0, travels=True
        ),
        Method("divprune", "diversity alone", OwnZspaPruner, core_ratio=0.0, travels=True),
        Method("zspa", "zspa", OwnZspaPruner, ("core_ratio", "pooling", "prompt_scope"), travels=True),
        Method("random", "random", RandomPruner, ("seed",)),
        Method("conditional_dpp", "conditional DPP", ConditionalDppPruner, ("prompt_scope",)),
        Method("mmtok", "MMTok", MmtokPruner, ("prompt_scope",)),
    )
}
# The ends of the core ratio of "zspa", from 0 to 1.
BASELINES = sorted((it for it in METHODS.values() if it.core_ratio is not None), key=lambda it: it.core_ratio or 0.0)
# It keeps what "divprune" does; what it costs is measured beside it.
PUBLISHED_DIVPRUNE = Method("divprune (published)", "published", PublishedDivPrune)


def check_method(name: str) -> Method:
    """The method of this name, or `ValueError` that names it and lists the methods."""
    if name not in METHODS:
        raise ValueError(f"there is no method {name!r}: choose from {', '.join(METHODS)}")
    return METHODS[name]


def readers(setting: str) -> list[str]:
    """The names of the methods that read a setting."""
    return [method.name for method in METHODS.values() if setting in method.all_settings()]


def unread(settings: Mapping[str, Any], methods: Iterable[str]) -> list[str]:
    """The settings that are given, not None, but which none of the methods reads."""
    read = {setting for name in methods for setting in METHODS[name].all_settings()}
    return [name for name, value in settings.items() if value is not None and name not in read]


def method_of(name: str, settings: Mapping[str, Any]) -> tuple[Method, dict[str, Any]]:
    """What a method amounts to with these settings, and those of them that its pruner reads.

    "zspa" with core ratio 0 or 1 is the baseline at that end, so that equal measurements are equal.

    Raises:
        ValueError: there is no such method.
    """
    method = check_method(name)
    if "core_ratio" in method.reads:
        method = {end.core_ratio: end for end in BASELINES}.get(settings.get("core_ratio"), method)
    return method, {key: settings[key] for key in _PRUNER_SETTINGS if key in settings and key in method.reads}


def make_pruner(
    name: str, *, keep_ratio: float, core_ratio: float = 0.2, pooling: str = "mean", seed: int = 0
) -> VisualTokenPruner | None:
    """The pruner of a method; None for "original" and for keep ratio 1, which are the stock model.

    Args:
        name: one of `METHODS`.
        keep_ratio: share of each image's tokens kept, in (0, 1].
        core_ratio: share of the kept tokens chosen by relevance, in [0, 1], where the method reads it.
        pooling: how prompt tokens are aggregated, where the method reads it.
        seed: what "random" draws from.

    Raises:
        ValueError: the method is unknown, or a parameter outside its range.
    """
    method = check_method(name)
    check_ratio("keep_ratio", keep_ratio, zero_allowed=False)
    if method.pruner is None or keep_ratio == 1:
        return None
    return method.make(keep_ratio, core_ratio=core_ratio, pooling=pooling, seed=seed)
