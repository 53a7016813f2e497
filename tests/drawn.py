"""Whether a visual token is drawn where it lies: its pixels are changed, and others are not."""

import copy

import numpy as np
import torch
from PIL import Image

from hf_zspa.loading import question_inputs
from hf_zspa.visualize.panels import enlarged
from hf_zspa.visualize.token_grid import token_views


def without_attention(model):
    """Makes the vision tower see every patch alone, so that a token depends on its own pixels only."""
    for name, module in model.named_modules():
        outputs = (
            "self_attn.out_proj", "attn.proj", "attention.projection_layer", "self_attn.o_proj", "attention.o_proj",
            "o_proj.linear",
        )  # fmt: skip
        if name.endswith(outputs) and "language" not in name and hasattr(module, "weight"):
            module.weight.data.zero_()
            if getattr(module, "bias", None) is not None:
                module.bias.data.zero_()
    return model


def assert_drawn_where_it_lies(pair, size: tuple[int, int]) -> None:
    """Lights a part of a dark picture of this width and height."""
    model = without_attention(copy.deepcopy(pair.model))
    width, height = size
    dark, lit = Image.new("RGB", size, "black"), Image.new("RGB", size, "black")
    lit.paste("white", (width * 5 // 10, height // 20, width * 8 // 10, height * 9 // 20))

    def seen(image):
        inputs = question_inputs(model, pair.processor, image, "what is this?")
        tokens = model.visual_and_prompt_tokens(**inputs)[0][0]
        return tokens, token_views(model, pair.processor, inputs, image, len(tokens))

    (dark_tokens, dark_views), (lit_tokens, lit_views) = seen(dark), seen(lit)
    changed = (dark_tokens - lit_tokens).abs().amax(1) > 1e-3
    placed = torch.cat([view.tokens.flatten() for view in dark_views])
    assert len(placed) == len(placed.unique())
    for before, after in zip(dark_views, lit_views, strict=True):
        light = np.asarray(enlarged(after).convert("L"), dtype=float) - np.asarray(enlarged(before).convert("L"))
        rows, columns = after.tokens.shape
        share = light.reshape(rows, light.shape[0] // rows, columns, -1).mean((1, 3)) / 255
        places = changed[after.tokens].numpy()
        assert places[share > 0.5].all()
        near = np.array([[share[max(0, r - 1) : r + 2, max(0, c - 1) : c + 2].max() for c in range(columns)]
                         for r in range(rows)])  # fmt: skip
        assert not places[near == 0].any()
    assert any(0 < changed[view.tokens].float().mean() < 1 for view in lit_views)
