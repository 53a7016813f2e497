"""Random weights in the shapes of well-known models: how long something takes does not depend on the values."""

import inspect
import math
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any

import torch
from transformers import AutoConfig

from ..checkpoints.families import FAMILIES, Family

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
    """A model to build, and what its processor makes of an image.

    Attributes:
        config: what `config.json` says, for `AutoConfig.for_model`.
        pixels: the shape of an image's pixels.
        size: what the processor says of an image's size, where it does.
        packed: images and videos are of any size, and `pixels` is the shape of one of their patches.
        around: entries of the config, the tokens that begin and end every image.
    """

    config: dict[str, Any]
    pixels: tuple[int, ...]
    size: tuple[int, ...] = ()
    packed: bool = False
    around: tuple[str, ...] = ()

    @property
    def family(self) -> Family:
        return FAMILIES[self.config["model_type"]]

    @property
    def model_class(self) -> Any:
        return getattr(import_module(f"hf_zspa.remote_code.{self.family.module}"), self.family.model_class)

    def small(self) -> "Shape":
        """The same widths with few layers."""
        vision = dict(self.config["vision_config"])
        vision |= {"depth": SMALL_LAYERS, "fullatt_block_indexes": [1]} if "depth" in vision else {}
        vision |= {"num_hidden_layers": SMALL_LAYERS} if "num_hidden_layers" in vision else {}
        vision |= {"deepstack_visual_indexes": [0]} if "deepstack_visual_indexes" in vision else {}
        text = self.config["text_config"] | {"num_hidden_layers": SMALL_LAYERS}
        return replace(self, config=self.config | {"vision_config": vision, "text_config": text})


@dataclass(frozen=True)
class Prompt:
    """What every row of a batch is asked about.

    Attributes:
        images: images in a row.
        patches: rows and columns of patches of an image or a frame, where a shape has any size; four are one token.
        frames: frames of a video in place of the images, where a shape has videos; two frames share their tokens.
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
_QWEN3 = {
    "model_type": "qwen3_vl", "image_token_id": 151655, "video_token_id": 151656, "vision_start_token_id": 151652,
    "vision_end_token_id": 151653, "tie_word_embeddings": False,
    "text_config": {
        "hidden_size": 4096, "intermediate_size": 12288, "num_attention_heads": 32, "num_hidden_layers": 36,
        "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151936, "max_position_embeddings": 262144,
        "rope_scaling": {"mrope_interleaved": True, "mrope_section": [24, 20, 20], "rope_type": "default"},
        "rope_theta": 5000000,
    },
    "vision_config": {
        "depth": 27, "hidden_size": 1152, "intermediate_size": 4304, "num_heads": 16, "out_hidden_size": 4096,
        "patch_size": 16, "spatial_merge_size": 2, "temporal_patch_size": 2, "num_position_embeddings": 2304,
        "deepstack_visual_indexes": [8, 16, 24],
    },
}  # fmt: skip
_GEMMA3 = {
    "model_type": "gemma3", "boi_token_index": 255999, "eoi_token_index": 256000, "image_token_index": 262144,
    "mm_tokens_per_image": 256,
    "text_config": {
        "model_type": "gemma3_text", "hidden_size": 2560, "intermediate_size": 10240, "num_attention_heads": 8,
        "num_hidden_layers": 34, "num_key_value_heads": 4, "head_dim": 256, "vocab_size": 262208,
        "sliding_window": 1024, "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
    },
    "vision_config": {
        "model_type": "siglip_vision_model", "hidden_size": 1152, "intermediate_size": 4304, "image_size": 896,
        "num_attention_heads": 16, "num_hidden_layers": 27, "patch_size": 14, "vision_use_head": False,
    },
}  # fmt: skip
_AROUND = ("vision_start_token_id", "vision_end_token_id")
SHAPES = {
    "llava-1.5-7b": Shape(_LLAVA, pixels=(3, 336, 336)),
    "llava-next-7b": Shape(  # the whole and four tiles
        _LLAVA | {"model_type": "llava_next", "image_grid_pinpoints": _PINPOINTS},
        pixels=(5, 3, 336, 336), size=(672, 672),
    ),
    "qwen2.5-vl-7b": Shape(_QWEN, pixels=(3 * 2 * 14 * 14,), packed=True, around=_AROUND),
    "gemma-3-4b": Shape(_GEMMA3, pixels=(3, 896, 896), around=("boi_token_index", "eoi_token_index")),
    "qwen3-vl-8b": Shape(_QWEN3, pixels=(3 * 2 * 16 * 16,), packed=True, around=_AROUND),
}  # fmt: skip
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
    if sized and not shape(name).packed:
        others = ", ".join(other for other, known in SHAPES.items() if known.packed)
        raise ValueError(f"--patches and --frames are for {others}: {name} has images of one size, no videos")


def inputs(name: str, model, prompt: Prompt = Prompt()) -> dict[str, torch.Tensor]:
    """What a processor would make of such a prompt, with random pixels and 40 tokens of text.

    Raises:
        ValueError: as `check_prompt`.
    """
    check_prompt(name, prompt)
    known, config = SHAPES[name], model.config
    family, count, generator = known.family, prompt.batch * prompt.images, torch.Generator().manual_seed(0)
    kind = "video" if prompt.frames else "image"
    suffix = "_videos" if prompt.frames else ""
    size, pixels = known.size, (count, *known.pixels)
    if known.packed:
        size = (max(1, prompt.frames // 2), *prompt.patches)
        pixels = (count * math.prod(size), *known.pixels)
    visual = {f"pixel_values{suffix}": torch.randn(*pixels, generator=generator).to(model.dtype)}
    if size:
        visual[family.size.replace("image", kind)] = torch.tensor([size] * count)
    placeholder = getattr(config, f"{kind}_token_id")
    before, after = ([getattr(config, entry)] for entry in known.around) if known.around else ([], [])
    tokens = family.layout(config.to_dict(), size).count
    image = torch.tensor([before + [placeholder] * tokens + after] * prompt.batch)
    text = torch.randint(5, 30000, (prompt.batch, TEXT), generator=generator)
    ids = torch.cat([text[:, : TEXT // 4], *[image] * prompt.images, text[:, TEXT // 4 :]], 1)
    given = {"input_ids": ids, "attention_mask": torch.ones_like(ids)} | visual
    types = {"token_type_ids", "mm_token_type_ids"} & {*inspect.signature(model.forward).parameters}
    for name in types:  # the second from 5.4 or so on
        given[name] = (ids == placeholder) * (2 if prompt.frames else 1)
    return {key: value.to(model.device) for key, value in given.items()}
