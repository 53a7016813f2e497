"""Random weights in the shapes of well-known models: how long something takes does not depend on the values."""

from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoConfig

from ..remote_code.modeling_zspa_llava import ZspaLlavaForConditionalGeneration
from ..remote_code.modeling_zspa_llava_next import ZspaLlavaNextForConditionalGeneration
from ..remote_code.modeling_zspa_qwen2_5_vl import ZspaQwen2_5_VLForConditionalGeneration

SMALL_LAYERS = 2  # language model layers of the "-small" shapes; the widths stay
TEXT = 40  # tokens of the prompt beside the visual ones
_CLIP = {
    "model_type": "clip_vision_model", "hidden_size": 1024, "intermediate_size": 4096, "image_size": 336,
    "num_attention_heads": 16, "num_hidden_layers": 24, "patch_size": 14, "projection_dim": 768,
}  # fmt: skip
_LLAVA_TEXT = {
    "model_type": "llama", "hidden_size": 4096, "intermediate_size": 11008, "num_attention_heads": 32,
    "num_hidden_layers": 32, "num_key_value_heads": 32, "vocab_size": 32064, "max_position_embeddings": 4096,
}  # fmt: skip
_PINPOINTS = [[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]]


@dataclass(frozen=True)
class Shape:
    """A model to build and an image to show it.

    Attributes:
        config: what `config.json` says, for `AutoConfig.for_model`.
        patches: for Qwen2.5-VL, rows and columns of patches of the image.
    """

    model_class: Any
    config: dict[str, Any]
    patches: tuple[int, int] = (72, 72)


_LLAVA = {"model_type": "llava", "image_token_index": 32000, "vision_config": _CLIP, "text_config": _LLAVA_TEXT}
_QWEN = {
    "model_type": "qwen2_5_vl", "image_token_id": 151655, "video_token_id": 151656, "vision_start_token_id": 151652,
    "vision_end_token_id": 151653,
    "text_config": {
        "hidden_size": 3584, "intermediate_size": 18944, "num_attention_heads": 28, "num_hidden_layers": 28,
        "num_key_value_heads": 4, "vocab_size": 152064, "max_position_embeddings": 128000,
        "rope_scaling": {"type": "mrope", "rope_type": "default", "mrope_section": [16, 24, 24]},
        "rope_theta": 1000000.0, "tie_word_embeddings": False,
    },
    "vision_config": {
        "depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16, "out_hidden_size": 3584,
        "patch_size": 14, "spatial_merge_size": 2, "temporal_patch_size": 2, "window_size": 112,
        "fullatt_block_indexes": [7, 15, 23, 31], "tokens_per_second": 2,
    },
}  # fmt: skip
SHAPES = {
    "llava-1.5-7b": Shape(ZspaLlavaForConditionalGeneration, _LLAVA),
    "llava-next-7b": Shape(
        ZspaLlavaNextForConditionalGeneration,
        _LLAVA | {"model_type": "llava_next", "image_grid_pinpoints": _PINPOINTS},
    ),
    "qwen2.5-vl-7b": Shape(ZspaQwen2_5_VLForConditionalGeneration, _QWEN),
}
SHAPES |= {
    f"{name}-small": Shape(
        shape.model_class,
        shape.config | {"text_config": shape.config["text_config"] | {"num_hidden_layers": SMALL_LAYERS}},
    )
    for name, shape in SHAPES.items()
}


def build(name: str, device: torch.device, dtype: torch.dtype):
    """A pruning model with random weights.

    Raises:
        ValueError: there is no such shape.
    """
    if name not in SHAPES:
        raise ValueError(f"--shape is {name!r}, but must be one of {', '.join(SHAPES)}")
    shape = SHAPES[name]
    config = AutoConfig.for_model(**shape.config)
    config = shape.model_class.config_class(**{k: v for k, v in config.to_dict().items() if k != "model_type"})
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with device:
            model = shape.model_class(config)
    finally:
        torch.set_default_dtype(before)
    return model.eval()


def inputs(name: str, model, batch: int = 1) -> dict[str, torch.Tensor]:
    """What a processor would make of one image and a question per row, with random pixels."""
    shape, config = SHAPES[name], model.config
    visual: dict[str, torch.Tensor] = {}
    generator = torch.Generator().manual_seed(0)
    if shape.config["model_type"] == "qwen2_5_vl":
        rows, columns = shape.patches
        visual["pixel_values"] = torch.randn(batch * rows * columns, 3 * 2 * 14 * 14, generator=generator)
        visual["image_grid_thw"] = torch.tensor([[1, rows, columns]] * batch)
        tokens = rows * columns // 4
    elif shape.config["model_type"] == "llava_next":
        visual["pixel_values"] = torch.randn(batch, 5, 3, 336, 336, generator=generator)
        visual["image_sizes"] = torch.tensor([[672, 672]] * batch)
        tokens = 24 * 24 + 48 * (48 + 1)  # the whole, then four tiles with a newline after each row
    else:
        visual["pixel_values"] = torch.randn(batch, 3, 336, 336, generator=generator)
        tokens = 24 * 24
    ids = torch.randint(5, 30000, (batch, TEXT + tokens), generator=generator)
    before = TEXT // 4
    if shape.config["model_type"] == "qwen2_5_vl":
        ids[:, before - 1] = config.vision_start_token_id
    ids[:, before : before + tokens] = config.image_token_id
    visual["pixel_values"] = visual["pixel_values"].to(model.dtype)
    given = {"input_ids": ids, "attention_mask": torch.ones_like(ids)} | visual
    if shape.config["model_type"] == "qwen2_5_vl":
        given["mm_token_type_ids"] = (ids == config.image_token_id).int()
    return {key: value.to(model.device) for key, value in given.items()}
