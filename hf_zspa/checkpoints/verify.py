"""Is the code in a checkpoint the code of this package? Compared byte for byte; nothing of the checkpoint is run."""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..remote_code.zspa_config import check_fields, check_names
from ..version import __version__, install_command
from .base import is_converted, read_config, strange_parts
from .code_files import DIGESTS, RELEASED, VERSION, allowed_position_ids, auto_map, code_files, digest
from .contents import Contents, contents_of
from .families import FAMILIES, Family
from .file_policy import is_another_of, problem_of, shown
from .files import read_json
from .json_policy import leads_elsewhere


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
    """What was found in a checkpoint; names and values out of it are written so that they can be printed.

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

    Returns:
        What was found; its `passed` says whether all of it is as installed.

    Raises:
        ValueError: there is no such checkpoint, it is not a converted one, or the Hub could not be asked.
    """
    held = contents_of(checkpoint)
    config = read_config(held.folder)
    family = FAMILIES.get(str(config.get("model_type")))
    if family is None or not is_converted(config):
        raise ValueError(
            f"{checkpoint} is not a zspa checkpoint: there is no code of hf_zspa in it to verify; hf-zspa convert "
            f"{checkpoint} OUT makes one"
        )
    noted = config.get(DIGESTS)
    digests: dict[str, Any] = noted if isinstance(noted, dict) else {}
    version, there = config.get(VERSION), {name for name in held.names if name.lower().endswith(".py")}
    installed = {path.name: path.read_bytes() for path in code_files(family)}
    known = {} if version == __version__ else _released(version, family)
    right = known or {name: digest(content) for name, content in installed.items()}
    code = sorted({*right, *digests, *there})
    compared = {
        name: _compared(held.folder / name, right.get(name), None if known else installed.get(name), digests.get(name))
        for name in code
    }
    files = [CodeFile(shown(name), problem and shown(problem)) for name, problem in compared.items()]
    problems = [shown(problem) for problem in _problems(held, config, family)]
    if not isinstance(version, str) or not re.fullmatch(r"[0-9][0-9A-Za-z.+]*", version):
        problems.append("config.json does not say which version of hf_zspa wrote it")
        version = None
    other = None
    if version not in (None, __version__):
        compared_with = "which its files are compared with" if known else f"to compare it, {install_command(version)}"
        other = (
            f"it was written by hf_zspa {version}, {compared_with}; hf-zspa upgrade gives a folder the code of "
            f"{__version__}"
        )
    return Verification(str(checkpoint), held.commit, version, files, problems, other)


def check_code(folder: Path, checkpoint: str | Path) -> None:
    """Checks a checkpoint whose code is about to be run.

    Args:
        checkpoint: what its `folder` was given as.

    Raises:
        ValueError: it does not pass `hf-zspa verify`.
    """
    found = verify_checkpoint(folder)
    if not found.passed:
        of_files = [f"{file.name} {file.problem}" for file in found.files if file.problem]
        first = [*filter(None, [found.other_version]), *of_files, *found.problems][0]
        raise ValueError(
            f"{checkpoint} is not run before it passes hf-zspa verify: {first}{'' if first.endswith('?') else '.'} To "
            "run it as it is, because you trust it, give --trust-remote-code, or trust_remote_code=True"
        )


def _released(version: Any, family: Family) -> dict[str, str]:
    """The digests of the code of an earlier version, by file; empty where they are not known."""
    files = read_json(RELEASED).get(str(version), {})
    ours = {name: of for name, of in files.items() if name.startswith("zspa_") or name == f"{family.module}.py"}
    return ours if f"{family.module}.py" in ours else {}


def _compared(path: Path, right: str | None, installed: bytes | None, noted: Any) -> str | None:
    """How a code file differs from the one of its version, and from its digest in `config.json`.

    Args:
        right: the digest of that version's; None where it has no such file.
        installed: what the installed version has; None where that is another.
        noted: the digest in `config.json`.
    """
    if right is None:
        return "does not belong to a zspa checkpoint" if noted is None else "is no file of the version it names"
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    if digest(content) != right:
        return _first_difference(content, installed) if installed is not None else "is not as it was released"
    kind = "released" if installed is None else "installed"
    return None if noted == right else f"is as {kind}, but config.json has {str(noted)[:100]} for it"


def _first_difference(found: bytes, installed: bytes) -> str:
    """The first line that differs, counted from 1, here and as installed."""
    here, there = found.split(b"\n"), installed.split(b"\n")
    number = next(
        (i for i, (ours, theirs) in enumerate(zip(here, there)) if ours != theirs), min(len(here), len(there))
    )
    return f"line {number + 1} is {_line(here, number)}, but installed {_line(there, number)}"


def _line(lines: list[bytes], number: int) -> str:
    return repr(lines[number].decode("utf-8", "backslashreplace")[:200]) if number < len(lines) else "no such line"


def _problems(held: Contents, config: dict[str, Any], family: Family) -> Iterable[str]:
    found, right = config.get("auto_map"), auto_map(family)
    if found != right:
        yield f"auto_map in config.json is {json.dumps(found)[:1000]}, but must be {json.dumps(right)}"
    try:
        check_names(config)
        check_fields(config, allowed_position_ids(family))
    except ValueError as error:
        yield f"config.json cannot be loaded: {error}"
    yield from strange_parts(config, family)
    yield from held.oddities
    ours = ["config.json", *(path.name for path in code_files(family))]
    for name in held.names:
        twin = is_another_of(name, ours)
        if twin:
            yield f"{name} is the same file as {twin} to some systems: move it away"
        problem = problem_of(name, in_folder=held.commit is None)
        if problem:
            yield f"{name} {problem}"
        elif name.lower().endswith(".json"):
            yield from (f"{name} {sentence}" for sentence in _led_elsewhere(held.folder, name))


def _led_elsewhere(folder: Path, name: str) -> Iterable[str]:
    try:
        return leads_elsewhere(name, (folder / name).read_bytes())
    except OSError as error:
        return [f"cannot be read: {error.strerror}"]
    except ValueError:
        return ["is not valid JSON, so that nobody knows what it leads to"]
