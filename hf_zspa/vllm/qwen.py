"""The Qwen-VL models in vLLM, images and videos."""

from vllm.model_executor.models import qwen2_5_vl, qwen2_vl, qwen3_5, qwen3_vl, qwen3_vl_moe

from .positions import MropeMixin
from .pruning import served


@served
class ZspaQwen2VLForConditionalGeneration(MropeMixin, qwen2_vl.Qwen2VLForConditionalGeneration):
    """`Qwen2VLForConditionalGeneration` that keeps a few visual tokens, chosen for the prompt."""

    zspa_rests_on = (
        "qwen2_vl.py:Qwen2VLForConditionalGeneration",
        "qwen2_vl.py:Qwen2VLMultiModalProcessor",
    )


@served
class ZspaQwen2_5_VLForConditionalGeneration(MropeMixin, qwen2_5_vl.Qwen2_5_VLForConditionalGeneration):
    """`Qwen2_5_VLForConditionalGeneration` that keeps a few visual tokens, chosen for the prompt."""

    zspa_rests_on = (
        "qwen2_5_vl.py:Qwen2_5_VLForConditionalGeneration",
        "qwen2_5_vl.py:Qwen2_5_VLMultiModalProcessor",
        "qwen2_vl.py:Qwen2VLMultiModalProcessor",
    )


@served
class ZspaQwen3VLForConditionalGeneration(MropeMixin, qwen3_vl.Qwen3VLForConditionalGeneration):
    """`Qwen3VLForConditionalGeneration` that keeps a few visual tokens, chosen for the prompt."""

    zspa_rests_on = (
        "qwen3_vl.py:Qwen3VLForConditionalGeneration",
        "qwen3_vl.py:Qwen3VLMultiModalProcessor",
        "qwen3_vl.py:mrope_positions_factor",
    )


@served
class ZspaQwen3VLMoeForConditionalGeneration(MropeMixin, qwen3_vl_moe.Qwen3VLMoeForConditionalGeneration):
    """`Qwen3VLMoeForConditionalGeneration` that keeps a few visual tokens, chosen for the prompt."""

    zspa_rests_on = (
        "qwen3_vl_moe.py:Qwen3VLMoeForConditionalGeneration",
        "qwen3_vl.py:Qwen3VLForConditionalGeneration",
        "qwen3_vl.py:Qwen3VLMultiModalProcessor",
        "qwen3_vl.py:mrope_positions_factor",
    )


@served
class ZspaQwen3_5ForConditionalGeneration(MropeMixin, qwen3_5.Qwen3_5ForConditionalGeneration):
    """`Qwen3_5ForConditionalGeneration` that keeps a few visual tokens, chosen for the prompt."""

    zspa_rests_on = (
        "qwen3_5.py:Qwen3_5ForConditionalGeneration",
        "qwen3_vl.py:Qwen3VLForConditionalGeneration",
        "qwen3_vl.py:Qwen3VLMultiModalProcessor",
        "qwen3_vl.py:mrope_positions_factor",
    )
