"""Vision-language checkpoints that prune their own visual tokens, chosen for the prompt."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .version import __version__

if TYPE_CHECKING:
    from .checkpoints.convert import convert_checkpoint
    from .checkpoints.inspect import inspect_checkpoint
    from .checkpoints.upgrade import upgrade_checkpoint
    from .checkpoints.verify import verify_checkpoint
    from .hub.push import push_checkpoint
    from .loading import AutoModelForVision2Seq
    from .models.in_memory import from_pretrained, prune, unprune
    from .remote_code.zspa_methods import DppPruner, MmtokPruner, WeightedPruner, select_tokens
    from .remote_code.zspa_selection import VisualTokenPruner, ZspaPruner
    from .tuning.tune import tune
    from .visualize.checkpoint import draw_selection, visualize_checkpoint

__all__ = [
    "AutoModelForVision2Seq",
    "DppPruner",
    "MmtokPruner",
    "VisualTokenPruner",
    "WeightedPruner",
    "ZspaPruner",
    "__version__",
    "convert_checkpoint",
    "draw_selection",
    "from_pretrained",
    "inspect_checkpoint",
    "prune",
    "push_checkpoint",
    "select_tokens",
    "tune",
    "unprune",
    "upgrade_checkpoint",
    "verify_checkpoint",
    "visualize_checkpoint",
]

# Where each name is defined. It is imported when it is first used: torch and transformers take seconds.
_MODULES = {
    "AutoModelForVision2Seq": ".loading",
    "DppPruner": ".remote_code.zspa_methods",
    "MmtokPruner": ".remote_code.zspa_methods",
    "VisualTokenPruner": ".remote_code.zspa_selection",
    "WeightedPruner": ".remote_code.zspa_methods",
    "ZspaPruner": ".remote_code.zspa_selection",
    "convert_checkpoint": ".checkpoints.convert",
    "draw_selection": ".visualize.checkpoint",
    "from_pretrained": ".models.in_memory",
    "inspect_checkpoint": ".checkpoints.inspect",
    "prune": ".models.in_memory",
    "push_checkpoint": ".hub.push",
    "select_tokens": ".remote_code.zspa_methods",
    "tune": ".tuning.tune",
    "unprune": ".models.in_memory",
    "upgrade_checkpoint": ".checkpoints.upgrade",
    "verify_checkpoint": ".checkpoints.verify",
    "visualize_checkpoint": ".visualize.checkpoint",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_MODULES[name], __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
