"""Is the code in a checkpoint the code of this package? Compared byte for byte; nothing of the checkpoint is run."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi

from .base_checkpoint import FAMILIES, PICKLED, Family, checkpoint_folder, is_converted, read_config, read_json
from .travelling import DIGESTS, VERSION, auto_map, code_files, digest
from .version import __version__


@dataclass(frozen=True)
class CodeFile:
    """A code file of a checkpoint.

    Attributes:
        problem: how it differs from the installed one, or from its digest in `config.json`; None if it does not.
        as_noted: whether it is what `config.json` says.
    """

    name: str
    problem: str | None
    as_noted: bool = False


@dataclass(frozen=True)
class Verification:
    """What was found in a checkpoint.

    Attributes:
        checkpoint: as it was given.
        version: of the hf_zspa that wrote it, as its `config.json` says; None where that says nothing.
        files: the code files there are, and those there should be.
        problems: whatever else stands in the way of trusting it.
        other_version: what is to be said where it was written by another version than the installed one.
    """

    checkpoint: str
    version: str | None
    files: list[CodeFile]
    problems: list[str]
    other_version: str | None

    @property
    def passed(self) -> bool:
        return not self.problems and not self.other_version and not any(file.problem for file in self.files)

    @property
    def tampering(self) -> list[str]:
        """What shows that it is not as hf_zspa, of whatever version, wrote it."""
        known = self.other_version is not None
        wrong = [file for file in self.files if file.problem and not (known and file.as_noted)]
        return [f"{file.name} {file.problem}" for file in wrong] + self.problems


def verify_checkpoint(checkpoint: str | Path) -> Verification:
    """Compares the code in a checkpoint with that of the installed package and with the digests in its `config.json`.

    Args:
        checkpoint: folder, or Hub id with `@revision` behind it if wanted; of a Hub id the weights are not downloaded.

    Raises:
        ValueError: there is no such checkpoint, or it is not a converted one.
    """
    name, _, revision = (str(checkpoint), "", "") if Path(checkpoint).is_dir() else str(checkpoint).partition("@")
    folder = checkpoint_folder(name, revision or None, weights=False)
    config = read_config(folder)
    family = FAMILIES.get(config.get("model_type", ""))
    if family is None or not is_converted(config):
        raise ValueError(f"{checkpoint} is not a zspa checkpoint: there is no code of hf_zspa in it to verify")
    names = _all_files(name, revision or None, folder)
    noted = config.get(DIGESTS)
    digests: dict[str, Any] = noted if isinstance(noted, dict) else {}
    installed = {path.name: path.read_bytes() for path in code_files(family)}
    code = sorted({*installed, *digests, *(name for name in names if name.endswith(".py"))})
    files = [_compared(folder, name, installed.get(name), digests.get(name)) for name in code]
    version = config.get(VERSION)
    problems = [*_problems(folder, config, family, names)]
    if not version:
        problems.append("config.json does not say which version of hf_zspa wrote it")
    other = f"it was written by hf_zspa {version}: to compare it with that, pip install hf-zspa=={version}"
    return Verification(
        str(checkpoint), version, files, problems, other if version and version != __version__ else None
    )


def _all_files(name: str, revision: str | None, folder: Path) -> list[str]:
    """Names of everything in a checkpoint, sub-folders too; of a repository, what it holds and not what was fetched."""
    if Path(name).expanduser().is_dir():
        return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return sorted(HfApi().list_repo_files(name, revision=revision))


def _compared(folder: Path, name: str, installed: bytes | None, noted: Any) -> CodeFile:
    if installed is None and noted is None:
        return CodeFile(name, "does not belong to a zspa checkpoint")
    path = folder / name
    content = path.read_bytes() if path.is_file() else None
    as_noted = noted == (None if content is None else digest(content))
    if content is None:
        return CodeFile(name, "is missing", as_noted)
    if installed is None:
        return CodeFile(name, "belongs to another version", as_noted)
    if content != installed:
        return CodeFile(name, _first_difference(content, installed), as_noted)
    return CodeFile(name, None if as_noted else f"is as installed, but config.json has {noted} for it", as_noted)


def _first_difference(found: bytes, installed: bytes) -> str:
    """The first line that differs, counted from 1, here and as installed."""
    ours, theirs = (text.decode("utf-8", "backslashreplace").split("\n") for text in (installed, found))
    number = next((i for i, (a, b) in enumerate(zip(ours, theirs)) if a != b), min(len(ours), len(theirs)))
    here, there = (repr(lines[number][:200]) if number < len(lines) else "no such line" for lines in (theirs, ours))
    return f"line {number + 1} is {here}, but installed {there}"


def _problems(folder: Path, config: dict[str, Any], family: Family, names: list[str]) -> Iterable[str]:
    found, right = config.get("auto_map"), auto_map(family)
    if found != right:
        yield f"auto_map in config.json is {json.dumps(found)}, but must be {json.dumps(right)}"
    for name in names:
        if name.endswith(PICKLED):
            yield f"{name} can run code when it is loaded: only safetensors belong into a checkpoint"
        elif name.endswith(".json") and name != "config.json" and (folder / name).is_file():
            content = read_json(folder / name) if name.endswith("_config.json") else {}
            if "auto_map" in content:
                yield f"{name} sends transformers to code of its own: {json.dumps(content['auto_map'])}"
