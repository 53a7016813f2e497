"""The small `LlavaForConditionalGeneration`: its shape, its first weights, what it makes of an image."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

from ..domains import PHOTOGRAPHS, SCENES, Domain
from ..scene import PATCH_SIZE
from ..vocabulary import LLAVA, PHOTO_LLAVA, Vocabulary
from .initialisation import normalised, patch_filters, scale_to_width

ROPE_THETA = 1e6


@dataclass(frozen=True)
class Shape:
    """Sizes of a model: cells a side, and the widths and heads of the vision tower and of the language model."""

    vocabulary: Vocabulary
    domain: Domain
    side: int
    vision_width: int
    vision_heads: int
    width: int
    intermediate: int


SMALL = Shape(LLAVA, SCENES, 12, 128, 4, 160, 448)  # 144 visual tokens, 1.9 million parameters
PHOTO = Shape(PHOTO_LLAVA, PHOTOGRAPHS, 21, 96, 3, 128, 352)  # 441 visual tokens, 1.2 million parameters


def build_config(shape: Shape = SMALL) -> LlavaConfig:
    """The configuration of a shape."""
    vision = CLIPVisionConfig(
        hidden_size=shape.vision_width,
        intermediate_size=3 * shape.vision_width,
        num_hidden_layers=3,
        num_attention_heads=shape.vision_heads,
        image_size=shape.side * PATCH_SIZE,
        patch_size=PATCH_SIZE,
        hidden_act="gelu_pytorch_tanh",
        projection_dim=shape.vision_width,
    )
    text = LlamaConfig(
        vocab_size=len(shape.vocabulary.tokens),
        hidden_size=shape.width,
        intermediate_size=shape.intermediate,
        num_hidden_layers=4,
        num_attention_heads=shape.width // 32,
        num_key_value_heads=shape.width // 32,
        head_dim=32,
        max_position_embeddings=512 if shape is SMALL else 1024,
        tie_word_embeddings=False,
        **_special_ids(),
        **_rope_fields(),
    )
    return LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=LLAVA.ids["<image>"],
        image_seq_length=shape.side**2,
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",
        projector_hidden_act="gelu",
        tie_word_embeddings=False,
        **_special_ids(),
    )


def _special_ids() -> dict[str, int]:
    return {f"{name}_token_id": LLAVA.ids[f"<{name}>"] for name in ("pad", "bos", "eos")}


def _rope_fields() -> dict[str, object]:
    """transformers 5 keeps theta in `rope_parameters`, 4.57 at the top."""
    if hasattr(LlamaConfig(), "rope_parameters"):
        return {"rope_parameters": {"rope_type": "default", "rope_theta": ROPE_THETA}}
    return {"rope_theta": ROPE_THETA}


def build_model(seed: int = 0, shape: Shape = SMALL) -> LlavaForConditionalGeneration:
    """A freshly initialised float32 model; the seed decides every weight."""
    torch.manual_seed(seed)
    model = LlavaForConditionalGeneration(build_config(shape))
    scale_to_width(model)
    _make_vision_local(model, torch.Generator().manual_seed(seed))
    with torch.no_grad():
        weight = _clip(model).embeddings.patch_embedding.weight
        weight.copy_(patch_filters(len(weight), PATCH_SIZE, seed, shape.domain))
    return model


def visual_tokens(model: LlavaForConditionalGeneration, images: Tensor) -> Tensor:
    """(b, side, side, 3) uint8 to projected visual tokens (b, n, d): the class token is dropped."""
    pixels = normalised(images).permute(0, 3, 1, 2).to(model.dtype)
    features = model.model.vision_tower(pixels).last_hidden_state[:, 1:]
    return model.model.multi_modal_projector(features)


def _clip(model: LlavaForConditionalGeneration) -> nn.Module:
    tower = model.model.vision_tower
    return getattr(tower, "vision_model", tower)


@torch.no_grad()
def _make_vision_local(model: LlavaForConditionalGeneration, generator: torch.Generator) -> None:
    """Sine positions and equal query and key maps, so attention starts on near and similar patches.

    The mimetic initialisation of Trockman and Kolter (2023), with 2-D positions.
    """
    clip = _clip(model)
    positions = clip.embeddings.position_embedding.weight
    width, side = positions.shape[1], clip.config.image_size // PATCH_SIZE
    bands = width // 4
    frequencies = 1.3 * (0.12 / 1.3) ** (torch.arange(bands) / (bands - 1))
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    waves = [wave(axis.reshape(-1, 1) * frequencies) for axis in (x, y) for wave in (torch.sin, torch.cos)]
    positions[0] = 0
    positions[1:] = torch.cat(waves, 1)
    for layer in clip.encoder.layers:
        attention = layer.self_attn
        size = width // attention.num_heads
        for head in range(attention.num_heads):
            rows = slice(head * size, (head + 1) * size)
            basis = torch.linalg.qr(torch.randn(width, size, generator=generator))[0].T
            sharpness = 1.0 if head < attention.num_heads // 2 else 1.4
            attention.q_proj.weight[rows] = attention.k_proj.weight[rows] = basis * sharpness
