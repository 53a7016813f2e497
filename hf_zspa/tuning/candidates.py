"""What is tried: settings of the selection, each at several keep ratios."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..evaluation.tables import setting as said
from ..remote_code.zspa_config import fields_of, fields_read

KEEP_RATIOS = (0.05, 0.1, 0.15, 0.25, 0.5, 0.75)


@dataclass(frozen=True)
class Setting:
    """A method and the settings it reads, all but the keep ratio.

    Attributes:
        method: one that travels in checkpoints.
        settings: name → value, as the arguments of its pruner.
    """

    method: str
    settings: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @property
    def fields(self) -> dict[str, Any]:
        """As entries of `config.json`."""
        return {"zspa_method": self.method} | {f"zspa_{name}": value for name, value in self.settings.items()}

    @property
    def nested(self) -> bool:
        """Whether it takes tokens in an order that does not depend on how many: fewer are the first of more."""
        return self.settings.get("core_ratio", 0.0) in (0.0, 1.0)

    @property
    def key(self) -> str:
        """The same text for the same setting."""
        return json.dumps(self.fields, sort_keys=True)

    def __str__(self) -> str:
        return said({"method": self.method, "pooling": None, **self.settings}, keep=False)


def setting(method: str, **given: Any) -> Setting:
    """A method with these settings, and the defaults of the others that it reads.

    Args:
        method: "zspa", "weighted", "dpp" or "mmtok".
        given: `core_ratio`, `relevance_weight`, `pooling` or `centre`.

    Raises:
        ValueError: there is no such method, or it does not read one of the settings.
    """
    found = _of_fields({"zspa_method": method} | {f"zspa_{name}": value for name, value in given.items()})
    for name in given:
        if name not in found.settings:
            raise ValueError(f"{name} is no setting of {method!r} to try, which are {', '.join(found.settings)}")
    return found


def _of_fields(fields: dict[str, Any]) -> Setting:
    """The method of fields of a config, and those that it reads."""
    read = {name.removeprefix("zspa_"): value for name, value in fields_read(fields).items()}
    del read["keep_ratio"]
    return Setting(fields["zspa_method"], read)


# From the cheapest method on: each where it did best on the embedded models, and the two formulas of others.
SETTINGS = (
    setting("zspa"),
    setting("zspa", core_ratio=0.0),
    setting("zspa", core_ratio=0.4),
    setting("weighted", pooling="none", relevance_weight=0.5),
    setting("weighted", pooling="none"),
    setting("weighted", pooling="none", relevance_weight=1.0),
    setting("weighted", pooling="none", centre=True),
    setting("weighted"),
    setting("dpp", pooling="none", relevance_weight=0.5),
    setting("dpp", pooling="none"),
    setting("dpp", relevance_weight=1.0),
    setting("mmtok"),
)


def settings_of_methods(names: Iterable[str]) -> list[Setting]:
    """Those of `SETTINGS` whose method is one of these.

    Raises:
        ValueError: there is no method of a name, or no name.
    """
    known, names = {each.method for each in SETTINGS}, list(names)
    for name in names or [""]:
        if name not in known:
            methods = ", ".join(dict.fromkeys(each.method for each in SETTINGS))
            raise ValueError(f"--methods has {name!r}, but must be some of {methods}: what travels in a checkpoint")
    return [each for each in SETTINGS if each.method in names]


def with_own(settings: Iterable[Setting], config: Any) -> list[Setting]:
    """The settings to try, that of the checkpoint first, each once.

    Raises:
        TypeError: one is no `Setting`.
    """
    tried = [_of_fields(fields_of(config)), *settings]
    for each in tried:
        if not isinstance(each, Setting):
            raise TypeError(f"settings has {each!r}, but must be of hf_zspa.tuning.candidates.setting('zspa', ...)")
    return list({each.key: each for each in tried}.values())


def check_keep_ratios(keep_ratios: Iterable[float], asked: str = "keep_ratios") -> list[float]:
    """Those to try, ascending, each once, to six digits; `asked` is what a message calls them.

    Raises:
        ValueError: there is none, or one is not between 0 and 1.
    """
    found = sorted({float(f"{ratio:g}") for ratio in keep_ratios})  # measurements go by this name
    if not found or not all(0 < ratio < 1 for ratio in found):
        wrong = next((f"{ratio:g}" for ratio in found if not 0 < ratio < 1), "empty")
        raise ValueError(
            f"{asked} is {wrong}, but must be numbers between 0 and 1, such as 0.05,0.1: at 1 nothing is pruned, "
            "which is what the others are compared with"
        )
    return found
