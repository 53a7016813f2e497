"""The shapes of `hf-zspa bench` with every width divided, where only what is done is looked at."""

from dataclasses import replace

import torch

from hf_zspa.bench import shapes


def tiny_model(name: str, monkeypatch):
    shape = shapes.SHAPES[name]
    config = {key: dict(value) if isinstance(value, dict) else value for key, value in shape.config.items()}
    config["text_config"] |= {"hidden_size": 128, "intermediate_size": 32, "num_attention_heads": 1,
                              "num_key_value_heads": 1, "head_dim": 128}  # fmt: skip
    config["vision_config"] |= {"hidden_size": 64, "intermediate_size": 32}
    if "out_hidden_size" in config["vision_config"]:
        config["vision_config"] |= {"out_hidden_size": 128, "num_heads": 4}
    monkeypatch.setitem(shapes.SHAPES, name, replace(shape, config=config))
    return shapes.build(name, torch.device("cpu"), torch.float32)
