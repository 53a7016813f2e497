"""The shapes of `hf-zspa bench` with every width divided, where only what is done is looked at."""

from dataclasses import replace

import tiny
import torch

from hf_zspa.bench import shapes

# What of a published model stays: how an image becomes tokens, and which tokens there are.
STAY = {
    "text_config": {"vocab_size", "vocab_size_per_layer_input"},
    "vision_config": {
        "image_size", "patch_size", "spatial_merge_size", "temporal_patch_size", "merge_kernel_size", "num_patches",
        "pooling_kernel_size", "position_embedding_size", "num_position_embeddings", "window_size",
    },
}  # fmt: skip


def tiny_model(name: str, monkeypatch):
    """The shape with the widths of its family's small checkpoint."""
    shape = shapes.SHAPES[name]
    recipe = tiny.RECIPES[shape.config["model_type"]]
    small = recipe.config(recipe.tokenizer())
    config = dict(shape.config)
    for part, stay in STAY.items():
        own = small.get(part, {key: value for key, value in small.items() if key != "vision_config"})
        config[part] = own | {key: value for key, value in config[part].items() if key in stay}
    config |= {key: value for key, value in small.items() if "hidden_size" in key or "projection_dim" in key}
    config |= {key: value for key, value in small.items() if key == "alignment_intermediate_size"}
    monkeypatch.setitem(shapes.SHAPES, name, replace(shape, config=config))
    return shapes.build(name, torch.device("cpu"), torch.float32)
