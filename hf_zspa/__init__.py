"""Vision-language checkpoints that prune their own visual tokens, chosen for the prompt."""

import transformers

from .checkpoints.convert import convert_checkpoint
from .remote_code.zspa_selection import VisualTokenPruner, ZspaPruner, select_tokens
from .version import __version__

# transformers 5 dropped the first name; both load the same classes.
AutoModelForVision2Seq = getattr(transformers, "AutoModelForVision2Seq", transformers.AutoModelForImageTextToText)

__all__ = [
    "AutoModelForVision2Seq",
    "VisualTokenPruner",
    "ZspaPruner",
    "__version__",
    "convert_checkpoint",
    "select_tokens",
]
