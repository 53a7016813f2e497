"""GLM-4.5V that prunes its own visual tokens, of images or of videos."""

from transformers import Glm4vMoeConfig, Glm4vMoeForConditionalGeneration, Glm4vMoeModel

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


class ZspaGlm4vMoeConfig(ZspaConfigMixin, Glm4vMoeConfig):
    """`Glm4vMoeConfig` with the fields of pruning."""


class ZspaGlm4vMoeModel(ZspaBaseModelMixin, Glm4vMoeModel):
    """`Glm4vMoeModel` that prunes when it is called with images."""

    config_class = ZspaGlm4vMoeConfig

    def placeholder_id(self, modality: str) -> int:
        """A video's tokens stand at an image's placeholders."""
        return self.config.image_token_id


class ZspaGlm4vMoeForConditionalGeneration(ZspaGenerationMixin, Glm4vMoeForConditionalGeneration):
    """`Glm4vMoeForConditionalGeneration` that keeps a few visual tokens, chosen for the prompt."""

    config_class = ZspaGlm4vMoeConfig
    base_class = ZspaGlm4vMoeModel
