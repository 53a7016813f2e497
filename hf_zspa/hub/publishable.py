"""Which folders can be published: a converted checkpoint, whole, with this package's code and nothing else."""

from pathlib import Path
from typing import Any

from ..allowed import TEMPLATES, is_sent, shown
from ..base_checkpoint import FAMILIES, is_converted, read_config, weight_files
from ..travelling import code_files
from ..trust import verify_checkpoint
from ..version import __version__

_PASSED_OVER = (".cache", ".git", ".gitattributes", ".gitignore")
_CODE = {file.name for family in FAMILIES.values() for file in code_files(family)}


def check_publishable(folder: Path) -> dict[str, Any]:
    """The `config.json` of a checkpoint that can be published.

    Raises:
        ValueError: it is not converted, its weights are not whole, its code is not that of the installed hf_zspa,
            byte for byte, or the folder holds files that do not belong to a checkpoint.
    """
    if not folder.is_dir():
        raise ValueError(f"there is no folder {folder}: make one with hf-zspa convert BASE {folder.name}")
    config = read_config(folder)
    if not is_converted(config) or config.get("model_type") not in FAMILIES:
        raise ValueError(f"{folder} is not a zspa checkpoint: make one with hf-zspa convert {folder} OUT, and push OUT")
    weight_files(folder)
    strangers = [name for name, path in _entries(folder).items() if not _belongs(name, path)]
    if strangers:
        raise ValueError(
            f"{folder} holds {shown(', '.join(strangers))}, which does not belong to a checkpoint: move it away and "
            "push again"
        )
    found = verify_checkpoint(folder)
    if found.other_version:
        raise ValueError(
            f"{folder} was written by hf_zspa {found.version}, whose code {__version__} cannot judge: pip install "
            f"hf-zspa=={found.version} to publish it as it is, or hf-zspa convert BASE OUT to make one of its base "
            f"with the code of {__version__} (--force replaces a folder, with the weights in it)"
        )
    if not found.passed:
        wrong = [f"{file.name} {file.problem}" for file in found.files if file.problem]
        raise ValueError(f"{folder} is not as hf_zspa wrote it: {'; '.join(wrong + found.problems)}")
    return config


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
    return name in _CODE or is_sent(name)
