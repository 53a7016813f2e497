"""The families of models whose checkpoints can be converted, a record each."""

from .gemma import GEMMA3
from .llava import LLAVA, LLAVA_NEXT
from .qwen import QWEN2_5_VL, QWEN2_VL, QWEN3_VL
from .record import Config, Family, Grid, Layout

__all__ = ["FAMILIES", "Config", "Family", "Grid", "Layout"]
FAMILIES = {family.model_type: family for family in (LLAVA, LLAVA_NEXT, QWEN2_5_VL, QWEN2_VL, GEMMA3, QWEN3_VL)}
