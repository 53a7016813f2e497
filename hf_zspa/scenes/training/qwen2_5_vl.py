"""The small `Qwen2_5_VLForConditionalGeneration`: windowed vision attention, merged patches, M-RoPE, any image size.

A cell of a scene is one visual token: 2 x 2 patches of 6 pixels.
"""

import torch
from torch import Tensor
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from ...remote_code.zspa_encoder import EncoderOutput
from ..scene import PATCH_SIZE
from ..vocabulary import QWEN2_5_VL
from .initialisation import normalised, patch_filters, scale_to_width

MERGE = 2
VISION_PATCH = PATCH_SIZE // MERGE
# A head of 32 has 16 frequencies, and M-RoPE gives the slowest of them to width. With the usual theta of 1e6 these
# would not turn visibly over the 14 columns of the largest scene; with 10 the slowest turns by 1.6 radians.
ROPE_THETA = 10.0
MROPE_SECTION = [4, 6, 6]


def build_config() -> Qwen2_5_VLConfig:
    """The configuration: 100 to 196 visual tokens of a scene, about 1.9 million parameters."""
    ids = QWEN2_5_VL.ids
    vision = {
        "depth": 3,
        "hidden_size": 96,
        "intermediate_size": 256,
        "num_heads": 3,
        "patch_size": VISION_PATCH,
        "spatial_merge_size": MERGE,
        "temporal_patch_size": 2,
        "window_size": 4 * PATCH_SIZE,
        "fullatt_block_indexes": [1, 2],
        "out_hidden_size": 160,
    }
    text = {
        "vocab_size": len(QWEN2_5_VL.tokens),
        "hidden_size": 160,
        "intermediate_size": 448,
        "num_hidden_layers": 4,
        "num_attention_heads": 5,
        "num_key_value_heads": 5,
        "max_position_embeddings": 512,
        "tie_word_embeddings": False,
        "bos_token_id": None,
        "eos_token_id": ids["<|im_end|>"],
        "pad_token_id": ids["<|endoftext|>"],
        **rope_fields(),
    }
    tokens = {"vision_start": "vision_start", "vision_end": "vision_end", "image": "image_pad", "video": "video_pad"}
    return Qwen2_5_VLConfig(
        text_config=text,
        vision_config=vision,
        tie_word_embeddings=False,
        **{f"{name}_token_id": ids[f"<|{token}|>"] for name, token in tokens.items()},
    )


def rope_fields() -> dict[str, object]:
    """M-RoPE as transformers 5 reads it (`rope_parameters`) and as 4.57 does (the other two)."""
    rope = {"mrope_section": MROPE_SECTION, "rope_type": "default", "rope_theta": ROPE_THETA}
    return {
        "rope_parameters": rope,
        "rope_scaling": {"mrope_section": MROPE_SECTION, "rope_type": "default", "type": "default"},
        "rope_theta": ROPE_THETA,
    }


def build_model(seed: int = 0) -> Qwen2_5_VLForConditionalGeneration:
    """A freshly initialised float32 model; the seed decides every weight."""
    torch.manual_seed(seed)
    model = Qwen2_5_VLForConditionalGeneration(build_config())
    scale_to_width(model)
    _make_vision_local(model, torch.Generator().manual_seed(seed))
    with torch.no_grad():
        weight = model.model.visual.patch_embed.proj.weight
        # An image is two equal frames to this tower.
        weight.copy_(patch_filters(len(weight), VISION_PATCH, seed)[:, :, None].expand_as(weight) / 2)
    return model


def patches(images: Tensor) -> tuple[Tensor, Tensor]:
    """(b, height, width, 3) uint8 to the processor's `pixel_values` (b · patches, 216) and `image_grid_thw` (b, 3)."""
    count, height, width, _ = images.shape
    rows, columns = height // VISION_PATCH, width // VISION_PATCH
    blocks = normalised(images).view(
        count, rows // MERGE, MERGE, VISION_PATCH, columns // MERGE, MERGE, VISION_PATCH, 3
    )
    values = blocks.permute(0, 1, 4, 2, 5, 7, 3, 6)[:, :, :, :, :, :, None].expand(-1, -1, -1, -1, -1, -1, 2, -1, -1)
    return values.reshape(count * rows * columns, -1), torch.tensor([[1, rows, columns]] * count)


def visual_tokens(model: Qwen2_5_VLForConditionalGeneration, images: Tensor) -> Tensor:
    """(b, height, width, 3) uint8 to merged visual tokens (b, cells, 160)."""
    pixel_values, grid = patches(images)
    features = model.model.get_image_features(pixel_values.to(model.dtype), image_grid_thw=grid)
    return torch.stack(EncoderOutput.of(features).images)


@torch.no_grad()
def _make_vision_local(model: Qwen2_5_VLForConditionalGeneration, generator: torch.Generator) -> None:
    """Equal query and key maps, so attention starts on similar patches, and through rotary positions on near ones.

    The mimetic initialisation of Trockman and Kolter (2023).
    """
    for block in model.model.visual.blocks:
        width, heads = block.attn.dim, block.attn.num_heads
        size = width // heads
        for head in range(heads):
            basis = torch.linalg.qr(torch.randn(width, size, generator=generator))[0].T
            rows = slice(head * size, (head + 1) * size)
            keys = slice(width + head * size, width + (head + 1) * size)
            block.attn.qkv.weight[rows] = block.attn.qkv.weight[keys] = basis * 1.2
