"""LLaVA-1.5, LLaVA-NeXT and LLaVA-OneVision in vLLM."""

from vllm.model_executor.models import llava, llava_next, llava_onevision

from .positions import OneRowMixin
from .processing import ZspaProcessorMixin
from .pruning import served


@served
class ZspaLlavaForConditionalGeneration(OneRowMixin, llava.LlavaForConditionalGeneration):
    """`LlavaForConditionalGeneration` that keeps a few visual tokens, chosen for the prompt."""

    zspa_rests_on = (
        "llava.py:LlavaForConditionalGeneration",
        "llava.py:BaseLlavaMultiModalProcessor",
        "llava.py:LlavaMultiModalProcessor",
        "llava.py:PixtralHFMultiModalProcessor",
        "llava.py:_build_llava_or_pixtral_hf_info",
        "llava.py:_build_llava_or_pixtral_hf_processor",
    )


@served
class ZspaLlavaNextForConditionalGeneration(OneRowMixin, llava_next.LlavaNextForConditionalGeneration):
    """`LlavaNextForConditionalGeneration` that keeps a few visual tokens, chosen for the prompt."""

    zspa_rests_on = (
        "llava_next.py:LlavaNextForConditionalGeneration",
        "llava_next.py:BaseLlavaNextMultiModalProcessor",
        "llava_next.py:LlavaNextMultiModalProcessor",
        "llava.py:BaseLlavaMultiModalProcessor",
    )


class _OnevisionProcessorMixin(ZspaProcessorMixin):
    modalities = ("image", "video")


@served
class ZspaLlavaOnevisionForConditionalGeneration(OneRowMixin, llava_onevision.LlavaOnevisionForConditionalGeneration):
    """`LlavaOnevisionForConditionalGeneration` that keeps a few visual tokens, chosen for the prompt."""

    zspa_rests_on = (
        "llava_onevision.py:LlavaOnevisionForConditionalGeneration",
        "llava_onevision.py:LlavaOnevisionMultiModalProcessor",
        "llava_next.py:BaseLlavaNextMultiModalProcessor",
        "llava.py:BaseLlavaMultiModalProcessor",
    )
    zspa_processor = _OnevisionProcessorMixin
