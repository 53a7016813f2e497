"""What a stock checkpoint consists of, and whether it can be converted; nothing is written here."""

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import SequenceMatcher
from pathlib import Path, PurePath
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError, safe_open

from ..remote_code.zspa_config import FIELDS, fields_read
from .families import FAMILIES, Family
from .file_policy import PICKLED, STOCK, file_effect, is_legal, is_plain, shown
from .files import load_json, read_json
from .json_policy import redirections

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"


def read_config(folder: Path) -> dict:
    """The `config.json` of a checkpoint's folder; raises `ValueError` where there is none."""
    if not (folder / "config.json").is_file():
        raise ValueError(f"{folder} is not a checkpoint: it has no config.json")
    return read_json(folder / "config.json")


@contextmanager
def built_from(folder: Path, given: Iterable[str] = ()) -> Iterator[None]:
    """Names the `config.json` that transformers stumbles over, and the entries given in place of its own; raises
    `ValueError`."""
    try:
        yield
    except (ArithmeticError, AttributeError, KeyError, TypeError, StrictDataclassError) as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        entries = f" with the {' and '.join(given)} that you gave" if given else ""
        instead = "give other values" if given else "compare it with the base's"
        raise ValueError(f"no model can be built of {folder / 'config.json'}{entries} ({reason}): {instead}") from error


def is_converted(config: dict) -> bool:
    """Whether a `config.json` is that of a zspa checkpoint."""
    return any(name.startswith("zspa_") for name in config)


def untried_quantization(config: dict) -> str | None:
    """How a checkpoint's weights are quantized, where that is not how the tests have run pruned models; else None."""
    for found in _quantizations(config):
        if not isinstance(found, dict):
            continue
        method = str(found.get("quant_method", "in a way it does not name"))
        if method == "bitsandbytes" and not found.get("load_in_8bit"):
            continue  # 4-bit weights
        return method + (", 8 bit" if method == "bitsandbytes" else "")
    return None


def _quantizations(config: dict) -> list[Any]:
    """What a `config.json`, or its part about the text model, says of quantization, where transformers reads it."""
    parts = [config, *(part for part in [config.get("text_config")] if isinstance(part, dict))]
    names = ("quantization_config", "compression_config")
    return [part[name] for part in parts for name in names if part.get(name) is not None]


def known_family(folder: Path, config: dict) -> Family:
    """The family that a `config.json` names; raises `ValueError` where it is none that is supported."""
    family = FAMILIES.get(str(config.get("model_type")))
    if family is None:
        likeness, nearest = max((_likeness(config, other), other.model_type) for other in FAMILIES.values())
        raise ValueError(
            f"{folder} is of model type {config.get('model_type')!r}, but must be one of {', '.join(FAMILIES)}"
            + (f"; the nearest is {nearest}" if likeness >= 0.65 else "")
            + ". How a family is added stands in docs/extending.md"
        )
    return family


def _likeness(config: dict, family: Family) -> float:
    """How near a model is to a family: something for each part that is a model of the family's kinds, and up to one for
    the spelling of its own type."""
    parts = (config.get("text_config"), family.text), (config.get("vision_config"), family.vision)
    shared = sum(isinstance(part, dict) and part.get("model_type") in kinds for part, kinds in parts)
    return 0.4 * shared + SequenceMatcher(None, str(config.get("model_type")), family.model_type).ratio()


def family_of(folder: Path, config: dict) -> Family:
    """The family of a base checkpoint.

    Raises:
        ValueError: it is of no supported family, of another class or made of other models than those of the family, is
            converted already, brings code of its own, or its JSON files lead transformers elsewhere.
    """
    if is_converted(config):
        read = fields_read({name: config[name] for name in FIELDS if name in config})
        now = ", ".join(f"{name} (now {value!r})" for name, value in read.items())
        raise ValueError(
            f"{folder} is converted already: to prune otherwise edit {now} in its config.json, or convert its base "
            "again"
        )
    family = known_family(folder, config)
    named = config.get("architectures") or []
    is_stock = family.stock in named or (family.published_as is not None and family.published_as in named)
    if "mm_vision_tower" in config or (named and not is_stock):
        raise ValueError(
            f"{folder} is of the architecture {', '.join(map(str, named)) or 'of the original LLaVA code'}, but must "
            f"be of {family.stock}: take the checkpoint that was made for transformers (its name often ends in -hf)"
        )
    if "auto_map" in config:
        raise ValueError(f"{folder} brings model code of its own (auto_map): only stock checkpoints are converted")
    if "configuration_files" in config:
        raise ValueError(
            f"{folder} would be read from another file than its config.json, and not prune: remove configuration_files "
            f"(now {json.dumps(config['configuration_files'])}) from its config.json, and convert it again"
        )
    for quantization in _quantizations(config):
        if not isinstance(quantization, dict):
            raise ValueError(
                f"the config.json of {folder} says {json.dumps(quantization)[:100]} of quantization, but must have an "
                "object there that says how the weights are quantized"
            )
    for strange in strange_parts(config, family):
        raise ValueError(f"{folder} cannot be converted: {strange}")
    for path in sorted(path for path in folder.glob("*.json") if path.name == "config.json" or _travels(path)):
        found = next(redirections(load_json(path)), None)
        if found is not None:
            raise ValueError(
                f"{path} {found}. Only stock checkpoints are converted: remove {found.entry}, if it works without"
            )
    return family


def strange_parts(config: dict, family: Family) -> list[str]:
    """What is to be said of the parts in a `config.json` that are not among those of its family, a sentence each."""
    found = []
    for entry, types in (("text_config", family.text), ("vision_config", family.vision)):
        part = config.get(entry)
        if part is None:  # then transformers takes its defaults, or finds the entries of the part beside it
            continue
        kind = part.get("model_type", types[0]) if isinstance(part, dict) else part
        if kind not in types:
            found.append(
                f"{entry} in its config.json is of model type {json.dumps(kind)[:100]}, which may load more than the "
                f"checkpoint: {family.model_type} can be made of {', '.join(types)}"
            )
    return found


def weight_names(variant: str | None = None) -> tuple[str, str]:
    """How transformers calls the single file of weights, and the index of shards; of a variant, such as "fp16"."""
    inside = f".{variant}." if variant else "."
    return f"model{inside}safetensors", f"model.safetensors.index{inside}json"


def weight_files(folder: Path, variant: str | None = None) -> list[str]:
    """Names of the safetensors files that transformers would load: the single one if there is one, else the shards.

    Raises:
        ValueError: there are none, only pickled ones, a shard is missing, or a file is no complete safetensors file.
    """
    single, index = weight_names(variant)
    if (folder / single).is_file():
        names = [single]
    elif (folder / index).is_file():
        names = shards(folder, index)
    else:
        pickled = sorted(path.name for path in folder.iterdir() if path.suffix in PICKLED)
        found = f"only pickled ones ({', '.join(pickled)})" if pickled else "none"
        raise ValueError(f"{folder} must have its weights as {single} or shards with {index}, but has {found}")
    for name in names:
        if not (folder / name).is_file():
            raise ValueError(f"{folder} lacks the shard {shown(name)}, which its {index} names")
        try:
            with safe_open(folder / name, framework="numpy"):  # so that torch is not imported
                pass
        except SafetensorError as error:
            raise ValueError(f"{folder / name} is not a complete safetensors file: {error}") from error
    return names


def shards(folder: Path, index: str = INDEX) -> list[str]:
    """Names of the files of weights that an index names, there or not; raises `ValueError` where they can be none."""
    named = read_json(folder / index).get("weight_map")
    names = sorted({str(name) for name in named.values()}) if isinstance(named, dict) else []
    if not names:
        raise ValueError(f"{folder / index} names no weights")
    for name in names:
        if PurePath(name).name != name or not name.endswith(".safetensors"):
            raise ValueError(f"{folder / index} names {name!r}, but must name .safetensors files beside it")
    return names


def other_files(folder: Path) -> list[str]:
    """Names of the files beside config and weights that a conversion keeps: tokenizer, processor, template, licence,
    and the index of sharded weights.

    Raises:
        ValueError: the folder has an adapter, which its weights are not complete without.
    """
    if (folder / "adapter_config.json").is_file():
        raise ValueError(f"{folder} has a PEFT adapter (adapter_config.json): merge it into the weights first")
    names = {path.name for path in folder.iterdir() if path.is_file() and _travels(path)}
    return sorted(names if (folder / WEIGHTS).is_file() else names | {INDEX})


def _travels(path: Path) -> bool:
    weights = path.suffix == ".safetensors" or ".index." in path.name
    if path.name == "config.json" or weights or not is_plain(path.name) or file_effect(path.name):
        return False
    return path.suffix in STOCK or is_legal(path.name)
