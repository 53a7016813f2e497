"""Qwen2.5-VL that prunes its own visual tokens, of images and of videos."""

from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLModel

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


class ZspaQwen2_5_VLConfig(ZspaConfigMixin, Qwen2_5_VLConfig):
    """`Qwen2_5_VLConfig` with the fields of pruning."""

    mmtok_tau_text = 0.01


class ZspaQwen2_5_VLModel(ZspaBaseModelMixin, Qwen2_5_VLModel):
    """`Qwen2_5_VLModel` that prunes when it is called with images."""

    config_class = ZspaQwen2_5_VLConfig


class ZspaQwen2_5_VLForConditionalGeneration(ZspaGenerationMixin, Qwen2_5_VLForConditionalGeneration):
    """`Qwen2_5_VLForConditionalGeneration` that keeps a few visual tokens, chosen for the prompt."""

    config_class = ZspaQwen2_5_VLConfig
    base_class = ZspaQwen2_5_VLModel
