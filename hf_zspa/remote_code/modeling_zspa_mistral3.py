"""Mistral 3 (Mistral Small 3.1 and later, Ministral 3) that prunes its own visual tokens."""

from transformers import Mistral3Config, Mistral3ForConditionalGeneration, Mistral3Model

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


class ZspaMistral3Config(ZspaConfigMixin, Mistral3Config):
    """`Mistral3Config` with the fields of pruning."""

    allowed_position_ids = ("preserve", "compact")


class ZspaMistral3Model(ZspaBaseModelMixin, Mistral3Model):
    """`Mistral3Model` that prunes when it is called with images."""

    config_class = ZspaMistral3Config


class ZspaMistral3ForConditionalGeneration(ZspaGenerationMixin, Mistral3ForConditionalGeneration):
    """`Mistral3ForConditionalGeneration` that keeps a few visual tokens, chosen for the prompt."""

    config_class = ZspaMistral3Config
    base_class = ZspaMistral3Model
