"""Is the code in a checkpoint the code of this package? Compared byte for byte; nothing of the checkpoint is run."""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from .base_checkpoint import COMPILED, FAMILIES, PICKLED, Family, is_converted, load_json, read_config
from .contents import Contents, contents_of
from .redirections import file_effect, redirections
from .travelling import DIGESTS, VERSION, auto_map, code_files, digest
from .version import __version__


@dataclass(frozen=True)
class CodeFile:
    """A code file of a checkpoint.

    Attributes:
        problem: how it differs from the installed one, or from its digest in `config.json`; None if it does not.
    """

    name: str
    problem: str | None


@dataclass(frozen=True)
class Verification:
    """What was found in a checkpoint.

    Attributes:
        checkpoint: as it was given.
        commit: of a Hub id, the commit that was looked at, all of it.
        version: of the hf_zspa that wrote it, as its `config.json` says; None where that says nothing.
        files: the code files there are, and those there should be.
        problems: whatever else stands in the way of trusting it.
        other_version: what is to be said where it was written by another version than the installed one.
    """

    checkpoint: str
    commit: str | None
    version: str | None
    files: list[CodeFile]
    problems: list[str]
    other_version: str | None

    @property
    def passed(self) -> bool:
        return not self.problems and not self.other_version and not any(file.problem for file in self.files)


def verify_checkpoint(checkpoint: str | Path) -> Verification:
    """Compares the code in a checkpoint with that of the installed package and with the digests in its `config.json`.

    Args:
        checkpoint: folder, or Hub id with `@revision` behind it if wanted; of a Hub id the weights are not downloaded.

    Raises:
        ValueError: there is no such checkpoint, it is not a converted one, or the Hub could not be asked.
    """
    held = contents_of(checkpoint)
    config = read_config(held.folder)
    family = FAMILIES.get(str(config.get("model_type")))
    if family is None or not is_converted(config):
        raise ValueError(f"{checkpoint} is not a zspa checkpoint: there is no code of hf_zspa in it to verify")
    noted = config.get(DIGESTS)
    digests: dict[str, Any] = noted if isinstance(noted, dict) else {}
    installed = {path.name: path.read_bytes() for path in code_files(family)}
    code = sorted({*installed, *digests, *(name for name in held.names if name.lower().endswith(".py"))})
    files = [CodeFile(name, _compared(held.folder / name, installed.get(name), digests.get(name))) for name in code]
    version = config.get(VERSION)
    problems = [*_problems(held, config, family)]
    if not isinstance(version, str) or not re.fullmatch(r"[0-9][0-9A-Za-z.+]*", version):
        problems.append("config.json does not say which version of hf_zspa wrote it")
        version = None
    other = f"it was written by hf_zspa {version}: to compare it with that, pip install hf-zspa=={version}"
    known = version in (None, __version__)
    return Verification(str(checkpoint), held.commit, version, files, problems, None if known else other)


def _compared(path: Path, installed: bytes | None, noted: Any) -> str | None:
    """How a code file differs from the installed one and from its digest in `config.json`."""
    if installed is None:
        return "does not belong to a zspa checkpoint" if noted is None else "is no file of the installed version"
    if not path.is_file():
        return "is missing"
    content = path.read_bytes()
    if content != installed:
        return _first_difference(content, installed)
    return None if noted == digest(content) else f"is as installed, but config.json has {noted} for it"


def _first_difference(found: bytes, installed: bytes) -> str:
    """The first line that differs, counted from 1, here and as installed."""
    ours, theirs = (text.decode("utf-8", "backslashreplace").split("\n") for text in (installed, found))
    number = next((i for i, (a, b) in enumerate(zip(ours, theirs)) if a != b), min(len(ours), len(theirs)))
    here, there = (repr(lines[number][:200]) if number < len(lines) else "no such line" for lines in (theirs, ours))
    return f"line {number + 1} is {here}, but installed {there}"


def _problems(held: Contents, config: dict[str, Any], family: Family) -> Iterable[str]:
    found, right = config.get("auto_map"), auto_map(family)
    if found != right:
        yield f"auto_map in config.json is {json.dumps(found)}, but must be {json.dumps(right)}"
    for name in held.links:
        yield f"{name} is a link to a folder, or to what is not in the checkpoint: put in its place what it leads to"
    for name in held.names:
        lowered = name.lower()
        effect = file_effect(name)
        if effect:
            yield f"{name} {effect}: it does not belong to a zspa checkpoint"
        if lowered.endswith(PICKLED):
            yield f"{name} can run code when it is loaded: only safetensors belong into a checkpoint"
        if lowered.endswith(COMPILED) and (held.commit or not _is_pythons_cache(name)):
            yield f"{name} is compiled code, which cannot be compared"
        if lowered.endswith(".json"):
            yield from _led_elsewhere(held.folder, name)


def _is_pythons_cache(name: str) -> bool:
    """Whether installing a package made the file beside its sources: transformers copies the sources and compiles its
    own."""
    path = PurePosixPath(name)
    return path.parts[:-1] == ("__pycache__",) and path.suffix == ".pyc"


def _led_elsewhere(folder: Path, name: str) -> Iterable[str]:
    try:
        content = load_json(folder / name)
    except ValueError:
        yield f"{name} is not valid JSON, so that nobody knows what it leads to"
        return
    if name == "config.json":  # its own auto_map has been compared
        content = {key: value for key, value in content.items() if key != "auto_map"}
    yield from (f"{name} {found}" for found in redirections(content))
    weights = content.get("weight_map") if name.endswith(".index.json") and isinstance(content, dict) else None
    for file in sorted(set(map(str, weights.values()))) if isinstance(weights, dict) else ():
        if "/" in file or not file.endswith(".safetensors"):
            yield f"{name} names {file} as weights: only safetensors beside it belong into a checkpoint"
