"""LLaVA (1.5, and every checkpoint of the same class) that prunes its own visual tokens."""

import functools

from transformers import LlavaConfig, LlavaForConditionalGeneration

# Every helper is imported here, used or not: transformers 4.x copies only the files that this one names.
from .zspa_compat import register_key_mapping
from .zspa_config import ZspaConfigMixin
from .zspa_forward import ZspaForwardMixin  # noqa: F401
from .zspa_generation import ZspaGenerationMixin
from .zspa_kernels import select_on_gpu  # noqa: F401
from .zspa_lookahead import select_on_cpu  # noqa: F401
from .zspa_prefill import PrunedPrompt  # noqa: F401
from .zspa_prompt import prompt_mask  # noqa: F401
from .zspa_selection import ZspaPruner  # noqa: F401
from .zspa_similarity import Cosines  # noqa: F401
from .zspa_visuals import ZspaVisualsMixin  # noqa: F401


class ZspaLlavaConfig(ZspaConfigMixin, LlavaConfig):
    """`LlavaConfig` with the fields of pruning."""

    allowed_position_ids = ("preserve", "compact")

    def __init__(self, *args, **kwargs):  # transformers 5 makes one for a class without, past the mixin's
        super().__init__(*args, **kwargs)


class ZspaLlavaForConditionalGeneration(ZspaGenerationMixin, LlavaForConditionalGeneration):
    """`LlavaForConditionalGeneration` that keeps a few visual tokens, chosen for the prompt.

    Against its base it changes `get_image_features`, `prepare_inputs_for_generation`, `generate` and `forward`.
    """

    config_class = ZspaLlavaConfig
    visual_inputs = {"image": ("pixel_values", "image_sizes", "vision_feature_layer", "vision_feature_select_strategy")}

    @functools.wraps(LlavaForConditionalGeneration.forward)
    def forward(self, *args, **kwargs):
        return self.pruned_forward(super().forward, *args, **kwargs)


register_key_mapping(ZspaLlavaForConditionalGeneration, LlavaForConditionalGeneration)
