"""Entries of a checkpoint's JSON files that lead transformers to code, or to a model, outside of the checkpoint."""

import json
from collections.abc import Iterable, Iterator
from fnmatch import fnmatch
from pathlib import PurePosixPath
from typing import Any, NamedTuple

_KEYS = {
    "auto_map": "sends transformers to code of its own",
    "configuration_files": "has transformers read another file in the place of config.json",
    "audio_tokenizer_name_or_path": "has the processor load a model of another repository",
}
_KERNELS = "has transformers take its attention from another repository"


class Redirection(NamedTuple):
    """An entry that leads elsewhere: its place, as `image_processor.auto_map`, its value, and what it does."""

    entry: str
    value: Any
    effect: str

    def __str__(self) -> str:
        return f"{self.effect}: {self.entry} is {json.dumps(self.value)[:300]}"


def redirections(content: Any) -> Iterator[Redirection]:
    """Every entry of what a JSON file holds, at any depth, that leads elsewhere."""
    waiting = [("", content)]
    while waiting:
        place, value = waiting.pop()
        inside: Iterable[tuple[Any, Any]] = ()
        if isinstance(value, dict):
            inside = value.items()
        elif isinstance(value, list):
            inside = enumerate(value)
        for key, item in inside:
            entry = f"{place}.{key}" if place else str(key)
            effect = _effect(key, item)
            if effect:
                yield Redirection(entry, item, effect)
            elif isinstance(item, (dict, list)):
                waiting.append((entry, item))


def file_effect(name: str) -> str | None:
    """What a file does by its name alone, if that leads elsewhere.

    Args:
        name: of a file in a checkpoint, with the folders in it that it is in, such as `custom_generate/generate.py`.
    """
    path = PurePosixPath(name.lower())
    if path.name == "adapter_config.json":
        return "makes it an adapter, and has transformers load the model of another repository"
    if fnmatch(path.name, "config.*.json"):
        return "can be read in the place of config.json"
    if "custom_generate" in path.parts:
        return "replaces the code that generates"
    return None


def _effect(key: str | int, value: Any) -> str | None:
    if value is None or isinstance(value, (int, float)):  # of a vocabulary any word may be a key
        return None
    if isinstance(key, str) and "_implementation" in key and "/" in json.dumps(value):
        return _KERNELS
    return _KEYS.get(str(key))
