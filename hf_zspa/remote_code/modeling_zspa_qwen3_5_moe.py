"""Qwen3.5-MoE that prunes its own visual tokens, of images and of videos."""

from transformers import Qwen3_5MoeConfig, Qwen3_5MoeForConditionalGeneration, Qwen3_5MoeModel

# Every helper is imported here, used or not: transformers 4.x copies only the files that this one names.
from .zspa_cache import PrunedPrompt  # noqa: F401
from .zspa_calling import choose  # noqa: F401
from .zspa_checks import CHECKS  # noqa: F401
from .zspa_compat import find_cache  # noqa: F401
from .zspa_config import ZspaConfigMixin
from .zspa_encoder import EncoderOutput  # noqa: F401
from .zspa_forward import ZspaBaseModelMixin
from .zspa_generation import ZspaGenerationMixin
from .zspa_greedy import Greedy  # noqa: F401
from .zspa_kernels import select_on_gpu  # noqa: F401
from .zspa_lookahead import GreedyOnCpu  # noqa: F401
from .zspa_methods import WeightedPruner  # noqa: F401
from .zspa_packing import Packed  # noqa: F401
from .zspa_prefill import PackedRows  # noqa: F401
from .zspa_prompt import prompt_mask  # noqa: F401
from .zspa_selection import ZspaPruner  # noqa: F401
from .zspa_similarity import Cosines  # noqa: F401
from .zspa_visuals import ZspaVisualsMixin  # noqa: F401


class ZspaQwen3_5MoeConfig(ZspaConfigMixin, Qwen3_5MoeConfig):
    """`Qwen3_5MoeConfig` with the fields of pruning."""

    first_transformers = "5.16"  # 5.10 crops a cache without its recurrence, and has no static one


class ZspaQwen3_5MoeModel(ZspaBaseModelMixin, Qwen3_5MoeModel):
    """`Qwen3_5MoeModel` that prunes when it is called with images."""

    config_class = ZspaQwen3_5MoeConfig


class ZspaQwen3_5MoeForConditionalGeneration(ZspaGenerationMixin, Qwen3_5MoeForConditionalGeneration):
    """`Qwen3_5MoeForConditionalGeneration` that keeps a few visual tokens, chosen for the prompt."""

    config_class = ZspaQwen3_5MoeConfig
    base_class = ZspaQwen3_5MoeModel
