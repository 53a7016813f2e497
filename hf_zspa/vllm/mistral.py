"""Mistral 3 in vLLM."""

from vllm.model_executor.models import mistral3

from .positions import OneRowMixin
from .pruning import served


@served
class ZspaMistral3ForConditionalGeneration(OneRowMixin, mistral3.Mistral3ForConditionalGeneration):
    """`Mistral3ForConditionalGeneration` that keeps a few visual tokens, chosen for the prompt."""

    zspa_rests_on = (
        "mistral3.py:Mistral3ForConditionalGeneration",
        "mistral3.py:Mistral3MultiModalProcessor",
    )
