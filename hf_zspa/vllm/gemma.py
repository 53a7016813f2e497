"""Gemma 3 in vLLM."""

from vllm.model_executor.models import gemma3_mm

from .positions import OneRowMixin
from .pruning import served


@served
class ZspaGemma3ForConditionalGeneration(OneRowMixin, gemma3_mm.Gemma3ForConditionalGeneration):
    """`Gemma3ForConditionalGeneration` that keeps a few visual tokens, chosen for the prompt."""

    zspa_flat = {"pixel_values": "num_patches"}
