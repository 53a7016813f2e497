"""Entries of a checkpoint's JSON files that lead transformers to code, or to a model, outside of the checkpoint."""

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from .file_policy import shown

_PART = "has a part of the model loaded from another place"
_KEYS = {
    "auto_map": "sends transformers to code of its own",
    "custom_pipelines": "has a pipeline of transformers run code of its own",
    "configuration_files": "has transformers read another file in the place of config.json",
    "transformers_weights": "has transformers load other weights than model.safetensors",
    "audio_tokenizer_name_or_path": "has the processor load a model of another repository",
    "backbone": _PART,
    "backbone_kwargs": _PART,
    "checkpoint_path": _PART,
}
_KERNELS = "has transformers take its attention from another repository"
# How transformers writes a class of another repository, or of a folder: org/name--module.Class
_CODE = re.compile(r"[^\s<>]+--[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")
_NOTES = ("_name_or_path", "name_or_path")  # where a config was saved; of the parts of a LLaVA it is never read


class Redirection(NamedTuple):
    """An entry that leads elsewhere: its printable place, as `image_processor.auto_map`, its value, its effect."""

    entry: str
    value: Any
    effect: str

    def __str__(self) -> str:
        return f"{self.effect}: {self.entry} is {json.dumps(self.value)[:300]}"


def leads_elsewhere(name: str, content: bytes) -> list[str]:
    """What a JSON file of a checkpoint does that leads transformers to code, a model or weights outside of what
    `hf-zspa verify` compares, a sentence each, such as "sends transformers to code of its own: auto_map is …".

    Nothing is read but what is given. It is the same question for a file here and for one on the Hub.

    Args:
        name: of the file, with the folders of the checkpoint that it is in. The `auto_map` of `config.json` itself is
            left out, as it must be there: it is compared with the right one.
        content: of the file.

    Raises:
        ValueError: it is not JSON, as transformers reads it, so that nobody knows what it leads to.
    """
    try:
        held = json.loads(content.decode())
        if name == "config.json" and isinstance(held, dict):
            held = {key: value for key, value in held.items() if key != "auto_map"}
        return [*map(str, redirections(held)), *_other_weights(held)]
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


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
                yield Redirection(shown(entry)[:300], item, effect)
            elif isinstance(item, (dict, list)):
                waiting.append((entry, item))


def _other_weights(content: Any) -> Iterator[str]:
    """Of an index of weights, by whatever name."""
    weights = content.get("weight_map") if isinstance(content, dict) else None
    for file in sorted(set(map(str, weights.values()))) if isinstance(weights, dict) else ():
        if "/" in file or "\\" in file or not file.endswith(".safetensors"):
            yield f"names {shown(file)[:300]} as weights: only safetensors beside it belong into a checkpoint"


def _effect(key: str | int, value: Any) -> str | None:
    if value is None or isinstance(value, (int, float)):  # of a vocabulary any word may be a key
        return None
    if isinstance(value, str) and key not in _NOTES and _CODE.fullmatch(value):
        return "names code of another repository"
    if isinstance(key, str) and "_implementation" in key and "/" in json.dumps(value):
        return _KERNELS
    return _KEYS.get(str(key))
