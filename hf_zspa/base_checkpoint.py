"""What a stock checkpoint consists of, and whether it can be converted; nothing is written here."""

import json
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from safetensors import SafetensorError, safe_open

from .allowed import LEGAL, PICKLED, STOCK, file_effect, is_legal, is_plain, shown
from .embedded import EVALUATED
from .hub.errors import FAILURES
from .redirections import redirections

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
# What asking the Hub for a repository may raise.
HUB_ERRORS: tuple[type[Exception], ...] = (HFValidationError, LocalEntryNotFoundError, *FAILURES)


@dataclass(frozen=True)
class Family:
    """A kind of checkpoint that can be converted.

    Attributes:
        model_type: as its `config.json` says.
        stock: transformers' generating class.
        text: the model types that its `text_config` may have, the one first that transformers takes where it has none.
        vision: the same of its `vision_config`.
    """

    model_type: str
    stock: str
    text: tuple[str, ...]
    vision: tuple[str, ...]

    @property
    def model_class(self) -> str:
        return f"Zspa{self.stock}"

    @property
    def config_class(self) -> str:
        return f"{self.model_class.removesuffix('ForConditionalGeneration')}Config"

    @property
    def module(self) -> str:
        return f"modeling_zspa_{self.model_type}"


# A LLaVA is made of any two models of transformers, and some of these load models, code or pickled files themselves.
# Here are those that published LLaVAs are made of; none of them loads anything.
_TEXT = ("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "phi", "phi3", "granite")
_VISION = ("clip_vision_model", "siglip_vision_model", "pixtral")
# A Qwen2.5-VL has its own two whatever its config says. What that is differs between versions of transformers.
_QWEN = ("qwen2_5_vl", "qwen2_5_vl_text", "qwen2_5_vl_vision")

FAMILIES = {
    family.model_type: family
    for family in (
        Family("llava", "LlavaForConditionalGeneration", _TEXT, _VISION),
        Family("llava_next", "LlavaNextForConditionalGeneration", _TEXT, _VISION),
        Family("qwen2_5_vl", "Qwen2_5_VLForConditionalGeneration", _QWEN, _QWEN),
    )
}


def checkpoint_folder(checkpoint: str | Path, revision: str | None = None, *, weights: bool = True) -> Path:
    """The folder of a checkpoint; a Hub id is downloaded into the Hub's cache, its safe files only.

    Args:
        checkpoint: folder, Hub id with `@revision` behind it if wanted, or a name of one inside this package.
        revision: branch, tag or commit of a Hub id.
        weights: download the weights too.

    Raises:
        ValueError: there is no such folder or Hub repository, or the Hub cannot be reached.
    """
    folder = local_folder(checkpoint)
    if folder is not None:
        if revision is not None:
            raise ValueError(f"revision {revision} has no meaning for the folder {checkpoint}: give a Hub id")
        return folder
    name, _, behind = hub_id(checkpoint).partition("@")
    if behind and revision not in (None, behind):
        raise ValueError(f"{checkpoint} has a revision, and {revision} is another: give one of the two")
    revision = behind or revision
    wanted = [*(f"*{suffix}" for suffix in (*STOCK, ".py")), *(f"{name}*" for name in (*LEGAL, "README.md"))]
    ignored = ["*/*"] if weights else ["*/*", "*.safetensors"]
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=wanted, ignore_patterns=ignored))
    except HUB_ERRORS as error:
        raise ValueError(f"there is no folder {checkpoint}, and {hub_failure(error, revision)}") from error


def local_folder(checkpoint: str | Path) -> Path | None:
    """The folder of a checkpoint that is on this machine, or inside this package by a name such as "embedded"; None
    where it can only be on the Hub.

    Raises:
        ValueError: it is such a name, and that of a checkpoint's folder too.
    """
    folder = Path(checkpoint).expanduser()
    if str(checkpoint) in EVALUATED:
        if (folder / "config.json").is_file():
            raise ValueError(
                f"{checkpoint} is a checkpoint inside hf_zspa, and a folder here: give ./{checkpoint} for the folder, "
                "or rename it"
            )
        folder = EVALUATED[str(checkpoint)]
    return folder.resolve() if folder.is_dir() else None


def hub_id(checkpoint: str | Path) -> str:
    """What is no folder, as a Hub id; raises `ValueError` where it can only be the name of a folder."""
    if isinstance(checkpoint, Path) or Path(checkpoint).is_absolute() or checkpoint.startswith(("./", "../", "~")):
        raise ValueError(f"there is no folder {checkpoint}")
    return checkpoint


def hub_failure(error: Exception, revision: str | None) -> str:
    """Why the Hub did not give a repository, and what to do; the more special kinds of error come first."""
    reasons = {
        HFValidationError: "it is no Hub id of the form org/name",
        OfflineModeIsEnabled: "HF_HUB_OFFLINE is set: unset it to ask the Hub for it",
        LocalEntryNotFoundError: "the Hub, where it could be a repository, is out of reach",
        GatedRepoError: "on the Hub it is gated: accept its terms there and log in with hf auth login",
        RepositoryNotFoundError: "the Hub has no such repository, or it is private: log in with hf auth login",
        RevisionNotFoundError: f"on the Hub it has no revision {revision}",
    }
    matching = (reason for kind, reason in reasons.items() if isinstance(error, kind))
    answered = getattr(error, "response", None) is not None
    said = "the Hub answered" if answered else "the Hub, where it could be a repository, is out of reach"
    return next(matching, f"{said}: {' '.join(str(error).split())}")


def load_json(path: Path) -> Any:
    """What a JSON file holds; raises `ValueError` where it is missing or is not JSON."""
    if not path.is_file():
        raise ValueError(f"there is no file {path}")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not valid JSON: {error}") from error


def read_json(path: Path) -> dict:
    """The object in a JSON file.

    Raises:
        ValueError: the file is missing, is not JSON, or holds something else than an object.
    """
    content = load_json(path)
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds {type(content).__name__}, but must hold a JSON object")
    return content


def read_config(folder: Path) -> dict:
    """The `config.json` of a checkpoint's folder; raises `ValueError` where there is none."""
    if not (folder / "config.json").is_file():
        raise ValueError(f"{folder} is not a checkpoint: it has no config.json")
    return read_json(folder / "config.json")


def is_converted(config: dict) -> bool:
    """Whether a `config.json` is that of a zspa checkpoint."""
    return any(name.startswith("zspa_") for name in config)


def family_of(folder: Path, config: dict) -> Family:
    """The family of a base checkpoint.

    Raises:
        ValueError: it is of no supported family, is made of other models than those of the family, is converted
            already, brings code of its own, or has entries in its JSON files that lead transformers elsewhere.
    """
    if is_converted(config):
        ratios = f"zspa_keep_ratio (now {config.get('zspa_keep_ratio')!r}) and zspa_core_ratio"
        raise ValueError(
            f"{folder} is converted already: for other ratios edit {ratios} (now {config.get('zspa_core_ratio')!r}) "
            "in its config.json, or convert its base again"
        )
    family = FAMILIES.get(str(config.get("model_type")))
    if family is None:
        raise ValueError(
            f"{folder} is of model type {config.get('model_type')!r}, but must be one of {', '.join(FAMILIES)}"
        )
    if "auto_map" in config:
        raise ValueError(f"{folder} brings model code of its own (auto_map): only stock checkpoints are converted")
    if "configuration_files" in config:
        raise ValueError(
            f"{folder} would be read from another file than its config.json, and not prune: remove configuration_files "
            f"(now {json.dumps(config['configuration_files'])}) from its config.json, and convert it again"
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
                f"checkpoint: a {family.model_type} can be made of {', '.join(types)}"
            )
    return found


def weight_files(folder: Path) -> list[str]:
    """Names of the safetensors files that transformers would load: the single one if there is one, else the shards.

    Raises:
        ValueError: there are none, only pickled ones, a shard is missing, or a file is no complete safetensors file.
    """
    if (folder / WEIGHTS).is_file():
        names = [WEIGHTS]
    elif (folder / INDEX).is_file():
        names = _shards(folder)
    else:
        pickled = sorted(path.name for path in folder.iterdir() if path.suffix in PICKLED)
        found = f"only pickled ones ({', '.join(pickled)})" if pickled else "none"
        raise ValueError(f"{folder} must have its weights as {WEIGHTS} or shards with {INDEX}, but has {found}")
    for name in names:
        try:
            with safe_open(folder / name, framework="pt"):
                pass
        except SafetensorError as error:
            raise ValueError(f"{folder / name} is not a complete safetensors file: {error}") from error
    return names


def _shards(folder: Path) -> list[str]:
    named = read_json(folder / INDEX).get("weight_map")
    shards = sorted({str(name) for name in named.values()}) if isinstance(named, dict) else []
    if not shards:
        raise ValueError(f"{folder / INDEX} names no weights")
    for name in shards:
        if PurePath(name).name != name or not name.endswith(".safetensors"):
            raise ValueError(f"{folder / INDEX} names {name!r}, but must name .safetensors files beside it")
        if not (folder / name).is_file():
            raise ValueError(f"{folder} lacks the shard {shown(name)}, which its {INDEX} names")
    return shards


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
