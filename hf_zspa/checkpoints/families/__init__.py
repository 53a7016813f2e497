"""The families of models whose checkpoints can be converted, a record each."""

from .gemma import GEMMA3, GEMMA4, PALIGEMMA
from .glm import GLM4V, GLM4V_MOE, GLM46V
from .kimi import KIMI_K25
from .llava import LLAVA, LLAVA_NEXT, LLAVA_ONEVISION
from .mistral import MISTRAL3
from .qwen import QWEN2_5_VL, QWEN2_VL, QWEN3_5, QWEN3_5_MOE, QWEN3_VL, QWEN3_VL_MOE
from .record import Config, Family, Grid, Layout
from .tiled import AYA_VISION, COHERE2_VISION, IDEFICS3, INTERNVL, LFM2_VL, SMOLVLM

__all__ = ["FAMILIES", "Config", "Family", "Grid", "Layout"]
_ALL = (
    LLAVA,
    LLAVA_NEXT,
    QWEN2_VL,
    QWEN2_5_VL,
    QWEN3_VL,
    QWEN3_VL_MOE,
    QWEN3_5,
    QWEN3_5_MOE,
    GEMMA3,
    GEMMA4,
    INTERNVL,
    AYA_VISION,
    COHERE2_VISION,
    SMOLVLM,
    IDEFICS3,
    LFM2_VL,
    MISTRAL3,
    LLAVA_ONEVISION,
    GLM4V,
    GLM4V_MOE,
    GLM46V,
    PALIGEMMA,
    KIMI_K25,
)
FAMILIES = {family.model_type: family for family in _ALL}
