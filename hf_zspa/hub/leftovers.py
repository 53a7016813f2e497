"""Files of another version of a checkpoint, beside those of this one: here, and on the Hub."""

from fnmatch import fnmatchcase
from pathlib import Path

from ..checkpoints.base import INDEX, WEIGHTS, weight_files

# What transformers looks for by its name, beside the config and the weights, and loads where it is there.
_READ_BY_NAME = (
    "generation_config.json",
    "*processor_config.json",  # preprocessor_config.json and video_preprocessor_config.json, too
    "audio_tokenizer_config.json",
    "chat_template.jinja",
    "chat_template.json",
    "additional_chat_templates/*",
    "tokenizer.json",
    "tokenizer.*.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece*.model",
    "tekken.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
)


def is_read_by_name(name: str) -> bool:
    """Whether transformers would load a file of a repository though the checkpoint has none of that name."""
    folder = name.rpartition("/")[0]
    return any(fnmatchcase(name, pattern) for pattern in _READ_BY_NAME if folder == pattern.rpartition("/")[0])


def check_weights(folder: Path) -> None:
    """Checks that a checkpoint's folder has no weights but those that transformers loads.

    Raises:
        ValueError: it has others, which would be published beside them.
    """
    loaded = {*weight_files(folder)}
    if WEIGHTS not in loaded:
        loaded.add(INDEX)
    held = {path.name for pattern in ("*.safetensors", "*.index.json") for path in folder.glob(pattern)}
    if others := sorted(held - loaded):
        raise ValueError(
            f"{folder} holds {', '.join(others)}, which transformers does not load beside {sorted(loaded)[0]}: move "
            "it away and push again"
        )
