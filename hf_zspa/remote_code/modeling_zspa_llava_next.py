"""LLaVA-NeXT that prunes its own visual tokens."""

from transformers import LlavaNextConfig, LlavaNextForConditionalGeneration, LlavaNextModel

# Every helper is imported here, used or not: transformers 4.x copies only the files that this one names.
from .zspa_cache import PrunedPrompt  # noqa: F401
from .zspa_compat import answered, register_key_mapping
from .zspa_config import ZspaConfigMixin
from .zspa_forward import ZspaBaseModelMixin, pruned
from .zspa_generation import ZspaGenerationMixin
from .zspa_kernels import select_on_gpu  # noqa: F401
from .zspa_lookahead import select_on_cpu  # noqa: F401
from .zspa_packing import Packed  # noqa: F401
from .zspa_prefill import PackedRows  # noqa: F401
from .zspa_prompt import prompt_mask  # noqa: F401
from .zspa_selection import ZspaPruner  # noqa: F401
from .zspa_similarity import Cosines  # noqa: F401
from .zspa_visuals import selecting


class ZspaLlavaNextConfig(ZspaConfigMixin, LlavaNextConfig):
    """`LlavaNextConfig` with the fields of pruning."""

    allowed_position_ids = ("preserve", "compact")


class ZspaLlavaNextModel(ZspaBaseModelMixin, LlavaNextModel):
    """`LlavaNextModel` that prunes when it is called with images."""

    config_class = ZspaLlavaNextConfig
    forward = pruned(LlavaNextModel.forward)
    get_image_features = answered(LlavaNextModel.get_image_features)


class ZspaLlavaNextForConditionalGeneration(ZspaGenerationMixin, LlavaNextForConditionalGeneration):
    """`LlavaNextForConditionalGeneration` that keeps a few visual tokens, chosen for the prompt."""

    config_class = ZspaLlavaNextConfig
    base_class = ZspaLlavaNextModel
    forward = pruned(LlavaNextForConditionalGeneration.forward)
    get_image_features = selecting(LlavaNextForConditionalGeneration.get_image_features)


register_key_mapping(ZspaLlavaNextForConditionalGeneration, LlavaNextForConditionalGeneration)
register_key_mapping(ZspaLlavaNextModel, LlavaNextModel)
