"""Random weights in the shapes of well-known models: how long something takes does not depend on the values."""

import inspect
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoConfig

from ..remote_code.modeling_zspa_llava import ZspaLlavaForConditionalGeneration
from ..remote_code.modeling_zspa_llava_next import ZspaLlavaNextForConditionalGeneration
from ..remote_code.modeling_zspa_qwen2_5_vl import ZspaQwen2_5_VLForConditionalGeneration

SMALL_LAYERS = 2  # of the language model and of the vision tower in the "-small" shapes; the widths stay
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
    """A model to build; `config` is what `config.json` says, for `AutoConfig.for_model`."""

    model_class: Any
    config: dict[str, Any]

    @property
    def model_type(self) -> str:
        return self.config["model_type"]

    def small(self) -> "Shape":
        """The same widths with few layers."""
        vision = dict(self.config["vision_config"])
        vision |= {"depth": SMALL_LAYERS, "fullatt_block_indexes": [1]} if "depth" in vision else {}
        vision |= {"num_hidden_layers": SMALL_LAYERS} if "num_hidden_layers" in vision else {}
        text = self.config["text_config"] | {"num_hidden_layers": SMALL_LAYERS}
        return Shape(self.model_class, self.config | {"vision_config": vision, "text_config": text})


@dataclass(frozen=True)
class Prompt:
    """What every row of a batch is asked about.

    Attributes:
        images: images in a row.
        patches: rows and columns of patches of an image or a frame of Qwen2.5-VL; four patches are one token.
        frames: frames of a video in place of the images (Qwen2.5-VL); two frames share their tokens.
    """

    batch: int = 1
    images: int = 1
    patches: tuple[int, int] = (72, 72)
    frames: int = 0


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
SHAPES |= {f"{name}-small": shape.small() for name, shape in SHAPES.items()}


def shape(name: str) -> Shape:
    """The shape of this name; raises `ValueError` where there is none."""
    if name not in SHAPES:
        raise ValueError(f"--shape is {name!r}, but must be one of {', '.join(SHAPES)}")
    return SHAPES[name]


def build(name: str, device: torch.device, dtype: torch.dtype, attention: str | None = None):
    """A pruning model with random weights; `attention` is transformers' name, such as "sdpa".

    Raises:
        ValueError: there is no such shape.
    """
    known = shape(name)
    config = AutoConfig.for_model(**known.config)
    config = known.model_class.config_class(**{k: v for k, v in config.to_dict().items() if k != "model_type"})
    config._attn_implementation = attention
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with device:
            model = known.model_class(config)
    finally:
        torch.set_default_dtype(before)
    return model.eval()


def check_prompt(name: str, prompt: Prompt) -> None:
    """Raises `ValueError` for a video, or a size of images, where the shape has neither, or an unknown shape."""
    sized = prompt.patches != Prompt.patches or prompt.frames
    if sized and shape(name).model_type != "qwen2_5_vl":
        raise ValueError(
            f"--patches and --frames are for the qwen2.5-vl shapes: {name} has images of one size, no videos"
        )


def inputs(name: str, model, prompt: Prompt = Prompt()) -> dict[str, torch.Tensor]:
    """What a processor would make of such a prompt, with random pixels and 40 tokens of text.

    Raises:
        ValueError: as `check_prompt`.
    """
    check_prompt(name, prompt)
    kind, config = SHAPES[name].model_type, model.config
    count, generator = prompt.batch * prompt.images, torch.Generator().manual_seed(0)
    visual: dict[str, torch.Tensor] = {}
    placeholder = config.video_token_id if prompt.frames else config.image_token_id
    if kind == "qwen2_5_vl":
        times, (rows, columns) = max(1, prompt.frames // 2), prompt.patches
        suffix, grid = ("_videos", "video_grid_thw") if prompt.frames else ("", "image_grid_thw")
        size = 3 * 2 * 14 * 14
        visual[f"pixel_values{suffix}"] = torch.randn(count * times * rows * columns, size, generator=generator)
        visual[grid] = torch.tensor([[times, rows, columns]] * count)
        tokens = times * rows * columns // 4
    elif kind == "llava_next":
        visual["pixel_values"] = torch.randn(count, 5, 3, 336, 336, generator=generator)
        visual["image_sizes"] = torch.tensor([[672, 672]] * count)
        tokens = 24 * 24 + 48 * (48 + 1)  # the whole, then four tiles with a newline after each row
    else:
        visual["pixel_values"] = torch.randn(count, 3, 336, 336, generator=generator)
        tokens = 24 * 24
    text = torch.randint(5, 30000, (prompt.batch, TEXT), generator=generator)
    image = torch.full((prompt.batch, tokens), placeholder)
    if kind == "qwen2_5_vl":  # every image begins and ends with a token of its own
        ends = [torch.full((prompt.batch, 1), i) for i in (config.vision_start_token_id, config.vision_end_token_id)]
        image = torch.cat([ends[0], image, ends[1]], 1)
    ids = torch.cat([text[:, : TEXT // 4], *[image] * prompt.images, text[:, TEXT // 4 :]], 1)
    visual = {key: value.to(model.dtype) if value.is_floating_point() else value for key, value in visual.items()}
    given = {"input_ids": ids, "attention_mask": torch.ones_like(ids)} | visual
    if "mm_token_type_ids" in inspect.signature(model.forward).parameters:  # from 5.4 or so on
        given["mm_token_type_ids"] = (ids == placeholder) * (2 if prompt.frames else 1)
    return {key: value.to(model.device) for key, value in given.items()}
