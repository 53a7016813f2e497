"""LLaVA-1.5, LLaVA-NeXT and LLaVA-OneVision in vLLM."""

from vllm.model_executor.models import llava, llava_next, llava_onevision

from .positions import OneRowMixin
from .processing import ZspaProcessorMixin
from .pruning import served


@served
class ZspaLlavaForConditionalGeneration(OneRowMixin, llava.LlavaForConditionalGeneration):
    """`LlavaForConditionalGeneration` that keeps a few visual tokens, chosen for the prompt."""


@served
class ZspaLlavaNextForConditionalGeneration(OneRowMixin, llava_next.LlavaNextForConditionalGeneration):
    """`LlavaNextForConditionalGeneration` that keeps a few visual tokens, chosen for the prompt."""


class _OnevisionProcessorMixin(ZspaProcessorMixin):
    modalities = ("image", "video")


@served
class ZspaLlavaOnevisionForConditionalGeneration(OneRowMixin, llava_onevision.LlavaOnevisionForConditionalGeneration):
    """`LlavaOnevisionForConditionalGeneration` that keeps a few visual tokens, chosen for the prompt."""

    zspa_processor = _OnevisionProcessorMixin
