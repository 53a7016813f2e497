"""Which folders can be published: a converted checkpoint, whole, with this package's code and nothing else."""

from pathlib import Path
from typing import Any

from ..checkpoints.base import INDEX, WEIGHTS, is_converted, read_config, weight_files
from ..checkpoints.code_files import allowed_position_ids, code_files
from ..checkpoints.families import FAMILIES
from ..checkpoints.file_policy import TEMPLATES, is_sent, shown
from ..checkpoints.verify import verify_checkpoint
from ..remote_code.zspa_config import FIELDS, check_fields, check_names
from ..version import __version__, install_command

_PASSED_OVER = (".cache", ".git", ".gitattributes", ".gitignore", "__pycache__")


def check_publishable(folder: Path) -> dict[str, Any]:
    """The `config.json` of a checkpoint that can be published, with the default of each pruning field it lacks.

    Raises:
        ValueError: it is not converted, its config would not load, its weights are not whole, its code is not that of
            the installed hf_zspa, byte for byte, or the folder holds files that do not belong to a checkpoint.
    """
    if folder.is_file():
        raise ValueError(f"{folder} is a file, but must be the folder of a checkpoint")
    if not folder.is_dir():
        raise ValueError(f"there is no folder {folder}: make one with hf-zspa convert BASE {folder.name}")
    config = read_config(folder)
    if not is_converted(config) or str(config.get("model_type")) not in FAMILIES:
        raise ValueError(f"{folder} is not a zspa checkpoint: make one with hf-zspa convert {folder} OUT, and push OUT")
    complete = _complete(folder, config)
    _check_weights(folder)
    strangers = [name for name, path in _entries(folder).items() if not _belongs(name, path)]
    if strangers:
        raise ValueError(
            f"{folder} holds {shown(', '.join(strangers))}, which does not belong to a checkpoint: move it away and "
            "push again"
        )
    found = verify_checkpoint(folder)
    if found.other_version:
        raise ValueError(
            f"{folder} was written by hf_zspa {found.version}, whose code {__version__} cannot judge: "
            f"{install_command(found.version or '')} to publish it as it is, or hf-zspa convert BASE OUT to make one "
            f"of its base with the code of {__version__} (--force replaces a folder, with the weights in it)"
        )
    if not found.passed:
        wrong = [f"{file.name} {file.problem}" for file in found.files if file.problem]
        raise ValueError(
            f"{folder} is not as hf_zspa wrote it: {'; '.join(wrong + found.problems)}. To make it anew: hf-zspa "
            "convert BASE OUT"
        )
    return complete


def _complete(folder: Path, config: dict[str, Any]) -> dict[str, Any]:
    """A `config.json` with its defaults; raises `ValueError` where transformers would refuse it or guess a part."""
    complete = FIELDS | config
    try:
        check_names(config)
        check_fields(complete, allowed_position_ids(FAMILIES[config["model_type"]]))
    except ValueError as error:
        raise ValueError(f"{folder / 'config.json'} cannot be loaded: {error}") from error
    # Of a Qwen2.5-VL the entries of the text part may stand beside those of the whole.
    parts = ["vision_config"] if "hidden_size" in config else ["vision_config", "text_config"]
    missing = [part for part in parts if not config.get(part)]
    if missing:
        raise ValueError(
            f"{folder / 'config.json'} has no {' and no '.join(missing)}, which its weights belong to: take it from "
            "the base's config.json, or convert the base again"
        )
    return complete


def _check_weights(folder: Path) -> None:
    """Raises `ValueError` where weights are not whole, or beside others, which transformers would not load."""
    loaded = {*weight_files(folder)}
    if WEIGHTS not in loaded:
        loaded.add(INDEX)
    held = {path.name for pattern in ("*.safetensors", "*.index.json") for path in folder.glob(pattern)}
    if others := sorted(held - loaded):
        raise ValueError(
            f"{folder} holds {', '.join(others)}, which transformers does not load beside {sorted(loaded)[0]}: move "
            "it away and push again"
        )


def checkpoint_files(folder: Path) -> dict[str, Path]:
    """The files of a checkpoint, by name; that of a further chat template has its folder before it."""
    return {name: path for name, path in _entries(folder).items() if not path.is_dir()}


def _entries(folder: Path) -> dict[str, Path]:
    """What there is in a folder, by name, with what is in the folder of chat templates; any other is one entry."""
    found = [path for path in folder.iterdir() if path.name not in _PASSED_OVER]
    found += (folder / TEMPLATES).iterdir() if (folder / TEMPLATES).is_dir() else []
    return {path.relative_to(folder).as_posix() + "/" * path.is_dir(): path for path in sorted(found)}


def _belongs(name: str, path: Path) -> bool:
    if path.is_dir():
        return name == f"{TEMPLATES}/"
    return is_sent(name) or any(name == file.name for family in FAMILIES.values() for file in code_files(family))
