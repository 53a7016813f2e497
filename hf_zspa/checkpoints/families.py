"""The families of models whose checkpoints can be converted, a record each."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Family:
    """A kind of checkpoint that can be converted.

    Attributes:
        model_type: as its `config.json` says.
        stock: transformers' generating class.
        text: the model types that its `text_config` may have, the one first that transformers takes where it has none.
        vision: the same of its `vision_config`.
    """

    model_type: str
    stock: str
    text: tuple[str, ...]
    vision: tuple[str, ...]

    @property
    def model_class(self) -> str:
        return f"Zspa{self.stock}"

    @property
    def config_class(self) -> str:
        return f"{self.model_class.removesuffix('ForConditionalGeneration')}Config"

    @property
    def module(self) -> str:
        return f"modeling_zspa_{self.model_type}"


# A LLaVA is made of any two models of transformers, and some of these load models, code or pickled files themselves.
# Here are those that published LLaVAs are made of; none of them loads anything.
_TEXT = ("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "phi", "phi3", "granite")

_VISION = ("clip_vision_model", "siglip_vision_model", "pixtral")

# A Qwen2.5-VL has its own two whatever its config says. What that is differs between versions of transformers.
_QWEN = ("qwen2_5_vl", "qwen2_5_vl_text", "qwen2_5_vl_vision")

FAMILIES = {
    family.model_type: family
    for family in (
        Family("llava", "LlavaForConditionalGeneration", _TEXT, _VISION),
        Family("llava_next", "LlavaNextForConditionalGeneration", _TEXT, _VISION),
        Family("qwen2_5_vl", "Qwen2_5_VLForConditionalGeneration", _QWEN, _QWEN),
    )
}
