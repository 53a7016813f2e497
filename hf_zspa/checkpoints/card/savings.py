"""What pruning saves, read from a `config.json` alone."""

from typing import Any

from ...remote_code.zspa_selection import ZspaPruner

# What the config classes of text models fill in where a config, as the Hub's LLaVA repositories do, leaves it out.
_TEXT_DEFAULTS = {
    "llama": {"num_hidden_layers": 32, "num_attention_heads": 32, "hidden_size": 4096},
    "mistral": {
        "num_hidden_layers": 32, "num_attention_heads": 32, "hidden_size": 4096, "num_key_value_heads": 8,
    },
}  # fmt: skip


def image_examples(config: dict[str, Any]) -> list[tuple[str, int, int]]:
    """Images, the visual tokens that the model makes of them, and how many are kept; none where that is not known."""
    vision = config.get("vision_config") or {}
    found: list[tuple[str, int]] = []
    if config["model_type"] == "qwen2_5_vl":
        pixels = vision.get("patch_size", vision.get("spatial_patch_size", 14)) * vision.get("spatial_merge_size", 2)
        found = [(f"{side * pixels} × {side * pixels} pixels", side * side) for side in (16, 36)]
    elif "image_size" in vision and "patch_size" in vision:
        size, side = vision["image_size"], vision["image_size"] // vision["patch_size"]
        whole = side * side + (config.get("vision_feature_select_strategy") == "full")
        if config["model_type"] == "llava":
            found = [("any", whole)]
        else:
            found = [(f"{2 * size} × {2 * size} pixels", whole + 2 * side * (2 * side + 1))]
    pruner = ZspaPruner(config["zspa_keep_ratio"])
    return [(what, count, pruner.budget(count)) for what, count in found]


def cache_bytes_per_token(config: dict[str, Any]) -> int | None:
    """Bytes of the keys and values of one token in 16 bits; None where the config does not tell."""
    text = config.get("text_config") or {}
    text = _TEXT_DEFAULTS.get(text.get("model_type", ""), {}) | config | text
    try:
        heads = text["num_attention_heads"]
        width = text.get("head_dim") or text["hidden_size"] // heads
        return text["num_hidden_layers"] * 2 * (text.get("num_key_value_heads") or heads) * width * 2
    except KeyError:
        return None
