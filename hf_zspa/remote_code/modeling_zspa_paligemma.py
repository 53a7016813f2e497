"""PaliGemma and PaliGemma 2 that prune their own visual tokens."""

from transformers import PaliGemmaConfig, PaliGemmaForConditionalGeneration, PaliGemmaModel

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


class ZspaPaliGemmaConfig(ZspaConfigMixin, PaliGemmaConfig):
    """`PaliGemmaConfig` with the fields of pruning."""

    allowed_position_ids = ("preserve", "compact")
    first_transformers = "5.0"  # 4.57 sees generated tokens both ways, too, where there is no cache


class ZspaPaliGemmaModel(ZspaBaseModelMixin, PaliGemmaModel):
    """`PaliGemmaModel` that prunes when it is called with images."""

    config_class = ZspaPaliGemmaConfig
    first_position = 1
    type_of_new_tokens = 1


class ZspaPaliGemmaForConditionalGeneration(ZspaGenerationMixin, PaliGemmaForConditionalGeneration):
    """`PaliGemmaForConditionalGeneration` that keeps a few visual tokens, chosen for the prompt."""

    config_class = ZspaPaliGemmaConfig
    base_class = ZspaPaliGemmaModel
