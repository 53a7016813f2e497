"""The GLM-V models in vLLM, images and videos."""

from vllm.model_executor.models import glm4_1v

from .positions import MropeMixin
from .pruning import served


@served
class ZspaGlm4vForConditionalGeneration(MropeMixin, glm4_1v.Glm4vForConditionalGeneration):
    """`Glm4vForConditionalGeneration` that keeps a few visual tokens, chosen for the prompt."""

    zspa_rests_on = (
        "glm4_1v.py:Glm4vForConditionalGeneration",
        "glm4_1v.py:Glm4vMultiModalProcessor",
    )


@served
class ZspaGlm4vMoeForConditionalGeneration(MropeMixin, glm4_1v.Glm4vMoeForConditionalGeneration):
    """`Glm4vMoeForConditionalGeneration` that keeps a few visual tokens, chosen for the prompt."""

    zspa_rests_on = (
        "glm4_1v.py:Glm4vForConditionalGeneration",
        "glm4_1v.py:Glm4vMoeForConditionalGeneration",
        "glm4_1v.py:Glm4vMultiModalProcessor",
    )
