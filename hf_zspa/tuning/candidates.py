"""What is tried: settings of the selection, each at several keep ratios."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..remote_code.zspa_config import CALL_SETTINGS
from ..remote_code.zspa_methods import settings_of

KEEP_RATIOS = (0.05, 0.1, 0.15, 0.25, 0.5, 0.75)
_SHORT = {"core_ratio": "core", "relevance_weight": "weight"}


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
        said = [self.method]
        for name, value in self.settings.items():
            if isinstance(value, bool):
                said += [name.replace("centre", "centred")] * value
            else:
                said.append(f"{_SHORT.get(name, name)} {value:g}" if isinstance(value, float) else str(value))
        return ", ".join(said)


def setting(method: str, **given: Any) -> Setting:
    """A method with these settings, and the package's defaults for the others that it reads."""
    defaults = {"core_ratio": 0.2, "relevance_weight": 0.75, "pooling": "mean", "centre": False} | given
    return Setting(method, {name: defaults[name] for name in settings_of(method) if name in defaults})


def own_setting(config: Any) -> Setting:
    """What a checkpoint does as it is."""
    names = {name.removeprefix("zspa_") for name in CALL_SETTINGS} - {"method", "keep_ratio"}
    return setting(config.zspa_method, **{name: getattr(config, f"zspa_{name}") for name in names})


# Each method where it did best on the embedded models, and the two formulas that others have published.
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


def with_own(settings: Iterable[Setting], config: Any) -> list[Setting]:
    """The settings to try, that of the checkpoint first, each once."""
    return list({each.key: each for each in (own_setting(config), *settings)}.values())


def check_keep_ratios(keep_ratios: Iterable[float]) -> list[float]:
    """Those to try, ascending, each once.

    Raises:
        ValueError: there is none, or one is not between 0 and 1.
    """
    found = sorted({float(ratio) for ratio in keep_ratios})
    if not found or not all(0 < ratio < 1 for ratio in found):
        wrong = next((f"{ratio:g}" for ratio in found if not 0 < ratio < 1), "empty")
        raise ValueError(
            f"--keep-ratio is {wrong}, but must be numbers between 0 and 1, such as 0.05,0.1: at 1 nothing is pruned, "
            "which is what the others are compared with"
        )
    return found
