"""Which files of a repository a push removes, because a user would load or run them beside those of the checkpoint."""

from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from typing import Any

from ..checkpoints.file_policy import COMPILED, PICKLED, file_effect, is_another_of, problem_of, shown, taken_for
from ..checkpoints.json_policy import leads_elsewhere

_WEIGHTS = ("*.safetensors", "*.index.json")
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
_READ = 1 << 24  # bytes of JSON that are fetched to be looked at; what transformers reads is smaller


def sorted_out(
    there: Mapping[str, Any], files: Mapping[str, object], read: Callable[[str], bytes]
) -> tuple[list[str], list[str], list[str]]:
    """The files of a repository that a push removes, those that stay, and of these, in a sentence each, what
    `hf-zspa verify` will say of the repository because of them.

    Args:
        there: the files of the repository, by name.
        files: those of the checkpoint.
        read: gives the content of a file of the repository; it is asked for JSON files that would stay.
    """
    removed, left, reported = [], [], []
    for name in sorted(there.keys() - files.keys() - {".gitattributes"}):
        leading = [] if _goes(name) else _led_elsewhere(name, there[name].size, read)
        if _goes(name) or leading or is_another_of(name, files):
            removed.append(name)
            continue
        left.append(name)
        problem = problem_of(name, in_folder=False)
        if problem or leading is None:
            reported.append(f"{shown(name)} {problem or 'is no JSON, or more of it than anybody reads'}")
    return removed, left, reported


def _goes(name: str) -> bool:
    """Whether a file goes by its name alone.

    These are weights, pickled files and what transformers reads by its name, beside the checkpoint's own, and in any
    folder code, compiled or not, and files that lead transformers elsewhere. What else `hf-zspa verify` refuses, such
    as a notebook, or the state of an optimizer in the folder of a training, is a person's and stays.
    """
    folder, _, file = taken_for(name).rpartition("/")
    if file.endswith((".py", *COMPILED)) or file_effect(name):
        return True
    if not folder and (file.endswith(PICKLED) or any(fnmatchcase(file, pattern) for pattern in _WEIGHTS)):
        return True
    folder = name.rpartition("/")[0]
    return any(fnmatchcase(name, pattern) for pattern in _READ_BY_NAME if folder == pattern.rpartition("/")[0])


def _led_elsewhere(name: str, size: int, read: Callable[[str], bytes]) -> list[str] | None:
    """Where a file leads transformers, if it is JSON; None where it cannot be read as that."""
    if not taken_for(name).endswith(".json"):
        return []
    if size > _READ:
        return None
    try:
        return leads_elsewhere(name, read(name))
    except ValueError:
        return None
