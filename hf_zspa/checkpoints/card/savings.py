"""What pruning saves, read from a `config.json` alone."""

from typing import Any

from ..families import FAMILIES

# What the config classes of text models fill in where a config, as the Hub's LLaVA repositories do, leaves it out.
_TEXT_DEFAULTS = {
    "llama": {"num_hidden_layers": 32, "num_attention_heads": 32, "hidden_size": 4096},
    "mistral": {
        "num_hidden_layers": 32, "num_attention_heads": 32, "hidden_size": 4096, "num_key_value_heads": 8,
    },
}  # fmt: skip


def image_examples(config: dict[str, Any]) -> list[tuple[str, int, int]]:
    """Images, the visual tokens that the model makes of them, and how many are kept; none where that is not known."""
    from ...remote_code.zspa_selection import ZspaPruner  # and torch with it

    pruner = ZspaPruner(config["zspa_keep_ratio"])
    found = FAMILIES[config["model_type"]].examples(config)
    return [(what, count, pruner.budget(count)) for what, count in found]


def cache_bytes_per_token(config: dict[str, Any]) -> int | None:
    """Bytes of the keys and values of one token in 16 bits; None where the config does not tell."""
    text = config.get("text_config") or {}
    text = _TEXT_DEFAULTS.get(text.get("model_type", ""), {}) | config | text
    try:
        heads = text["num_attention_heads"]
        width = text.get("head_dim") or text["hidden_size"] // heads
        return text["num_hidden_layers"] * 2 * (text.get("num_key_value_heads") or heads) * width * 2
    except (KeyError, TypeError, ZeroDivisionError):  # missing, or not a number of heads or layers
        return None
