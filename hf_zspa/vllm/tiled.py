"""Models in vLLM that cut an image into tiles."""

from vllm.model_executor.models import idefics3, interns1, smolvlm

from .positions import OneRowMixin
from .pruning import served


@served
class ZspaInternVLForConditionalGeneration(OneRowMixin, interns1.InternS1ForConditionalGeneration):
    """`InternVLForConditionalGeneration` that keeps a few visual tokens, chosen for the prompt."""

    zspa_rests_on = (
        "interns1.py:InternS1ForConditionalGeneration",
        "interns1.py:InternS1MultiModalProcessor",
    )
    zspa_flat = {"pixel_values": "image_num_patches"}


@served
class ZspaIdefics3ForConditionalGeneration(OneRowMixin, idefics3.Idefics3ForConditionalGeneration):
    """`Idefics3ForConditionalGeneration` that keeps a few visual tokens, chosen for the prompt."""

    zspa_rests_on = (
        "idefics3.py:Idefics3ForConditionalGeneration",
        "idefics3.py:Idefics3MultiModalProcessor",
    )
    zspa_flat = {"pixel_values": "num_patches", "pixel_attention_mask": "num_patches"}


@served
class ZspaSmolVLMForConditionalGeneration(OneRowMixin, smolvlm.SmolVLMForConditionalGeneration):
    """`SmolVLMForConditionalGeneration` that keeps a few visual tokens, chosen for the prompt."""

    zspa_rests_on = (
        "smolvlm.py:SmolVLMForConditionalGeneration",
        "idefics3.py:Idefics3ForConditionalGeneration",
        "idefics3.py:Idefics3MultiModalProcessor",
    )
    zspa_flat = {"pixel_values": "num_patches", "pixel_attention_mask": "num_patches"}
