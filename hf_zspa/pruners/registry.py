"""The methods of selection by name: one record each, read by whatever compares, draws, names or runs them."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from importlib import import_module
from typing import TYPE_CHECKING, Any

from ..remote_code.zspa_checks import check_ratio, settings_of
from ..remote_code.zspa_config import FIELDS

if TYPE_CHECKING:
    from ..remote_code.zspa_selection import VisualTokenPruner

PRUNER_SETTINGS = ("core_ratio", "relevance_weight", "pooling", "centre", "seed")
_ALWAYS_READ = ("keep_ratio", "position_ids")  # by every method that prunes


@dataclass(frozen=True)
class Method:
    """A way to choose the visual tokens to keep.

    Attributes:
        name: what commands, results and file names call it.
        label: what pages and pictures call it.
        travels: what a checkpoint's own code calls it; None where that has no such method.
        fixed: settings that make it one end, or one published setting, of that method.
        own: the module here, and in it the pruner's class, of one that does not travel; None where nothing is pruned.
        reads_prompt: whether the prompt plays a part.
    """

    name: str
    label: str
    travels: str | None = None
    fixed: Mapping[str, Any] = field(default_factory=dict)
    own: str | None = None
    reads_prompt: bool = True

    @property
    def pruner(self) -> Callable[..., Any] | None:
        """Its pruner's class, imported with torch when it is asked for; None where nothing is pruned."""
        if self.travels:
            from ..remote_code.zspa_methods import METHODS as TRAVELLING

            return TRAVELLING[self.travels]
        module, _, name = (self.own or "").partition(".")
        return getattr(import_module(f".{module}", __package__), name) if self.own else None

    @property
    def reads(self) -> tuple[str, ...]:
        """The settings it reads, beside those that every method that prunes reads."""
        if not (self.travels or self.own):
            return ()
        known = settings_of(self.travels) if self.travels else [it.name for it in fields(self.pruner)]  # type: ignore[arg-type]
        taken = {*known} - {*self.fixed}
        found = tuple(name for name in PRUNER_SETTINGS if name in taken)
        if not self.reads_prompt:
            return tuple(name for name in found if name != "pooling")
        return (*found, "prompt_scope")

    @property
    def core_ratio(self) -> float | None:
        """For the two ends of the core ratio of "zspa", which the paper has as baselines of their own."""
        return self.fixed.get("core_ratio")

    def make(self, keep_ratio: float, **settings: Any) -> "VisualTokenPruner":
        """Its pruner; of the settings it takes those that it reads.

        Raises:
            ValueError: it prunes nothing, or a setting is outside its range.
        """
        if self.pruner is None:
            raise ValueError(f"the method {self.name!r} has no pruner: choose from {', '.join(readers('keep_ratio'))}")
        return self.pruner(
            keep_ratio, **self.fixed, **{name: settings[name] for name in settings if name in self.reads}
        )

    def all_settings(self) -> tuple[str, ...]:
        """The names of all settings it reads."""
        return (*_ALWAYS_READ, *self.reads) if self.travels or self.own else ()


METHODS = {
    method.name: method
    for method in (
        Method("original", "all tokens"),
        Method("relevance", "relevance alone", "zspa", {"core_ratio": 1.0}),
        Method("divprune", "diversity alone", "zspa", {"core_ratio": 0.0}, reads_prompt=False),
        Method("zspa", "zspa", "zspa"),
        Method("weighted", "weighted", "weighted"),
        Method("dpp", "DPP", "dpp"),
        Method("conditional_dpp", "CDPruner's formula", "dpp", {"relevance_weight": 1.0, "pooling": "mean"}),
        Method("mmtok", "MMTok's formula", "mmtok"),
        Method("par", "PAR's clusters", own="clusters.ParPruner"),
        Method("tome", "ToMe's matching", own="merging.TomePruner", reads_prompt=False),
        Method("resized", "image resized", own="merging.PooledPruner", reads_prompt=False),
        Method("random", "random", own="random_subset.RandomPruner", reads_prompt=False),
    )
}
# The ends of the core ratio of "zspa", from 0 to 1.
BASELINES = sorted((it for it in METHODS.values() if it.core_ratio is not None), key=lambda it: it.core_ratio or 0.0)
# It keeps what "divprune" does; what it costs is measured beside it.
PUBLISHED_DIVPRUNE = Method(
    "divprune (published)", "published", own="published_divprune.PublishedDivPrune", reads_prompt=False
)


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
    return method, {key: settings[key] for key in PRUNER_SETTINGS if key in settings and key in method.reads}


def method_of_config(config: Mapping[str, Any]) -> tuple[Method, dict[str, Any]]:
    """`method_of` what a `config.json` says; an entry that it lacks has its default."""
    fields = {name.removeprefix("zspa_"): config.get(name, default) for name, default in FIELDS.items()}
    return method_of(fields["method"], fields)


def make_pruner(name: str, *, keep_ratio: float, **settings: Any) -> "VisualTokenPruner | None":
    """The pruner of a method; None for "original" and for keep ratio 1, which are the stock model.

    Args:
        name: one of `METHODS`.
        keep_ratio: share of each image's tokens kept, in (0, 1].
        settings: `core_ratio`, `relevance_weight`, `pooling`, `centre` or `seed`, used where the method reads them.

    Raises:
        ValueError: the method is unknown, or a parameter outside its range.
    """
    method = check_method(name)
    check_ratio("keep_ratio", keep_ratio, zero_allowed=False)
    return None if method.pruner is None or keep_ratio == 1 else method.make(keep_ratio, **settings)
