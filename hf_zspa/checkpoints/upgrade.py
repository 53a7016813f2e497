"""A converted checkpoint with the code of the installed version in place of an earlier one's."""

import os
import re
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

from packaging.version import InvalidVersion, Version

from ..remote_code.zspa_config import FIELDS, check_fields, check_names
from ..version import __version__
from .base import is_converted, known_family, read_config
from .card import read_card, refreshed_card
from .code_files import DIGESTS, VERSION, allowed_position_ids, code_entries, code_files
from .files import all_or_nothing, check_target, json_file, transfer
from .resolve import hub_id, local_folder, shipped_meant
from .shipped import SHIPPED
from .verify import verify_checkpoint

_IS_CODE = re.compile(r"(modeling_)?zspa_\w+\.py")  # by its name; what a config says of other files is not heeded


def upgrade_checkpoint(checkpoint: str | Path) -> str | None:
    """Gives a checkpoint the code of the installed version. Its fields stay, those that are new get their defaults, and
    of its card the part that hf-zspa writes is written anew. Nothing of its old code is run.

    The new folder is made beside the old one, with links to its files where the file system can, and takes its place at
    the end.

    Args:
        checkpoint: the folder of a converted checkpoint.

    Returns:
        The version of hf_zspa whose code it had; None where it is up to date, and nothing was changed.

    Raises:
        ValueError: it is no such folder, it was written by a later version than the installed one, its card cannot be
            read, or it would not pass `verify` afterwards.
    """
    if str(checkpoint) in SHIPPED:
        raise ValueError(f"{checkpoint} is inside hf_zspa, and always up to date: give a folder")
    folder = local_folder(checkpoint)
    if folder is None:
        fetch = f": fetch a Hub repository with hf download {checkpoint} --local-dir FOLDER, and push it afterwards"
        meant = shipped_meant(checkpoint) or fetch
        raise ValueError(f"{hub_id(checkpoint)} is no folder, and only a folder is brought up to date{meant}")
    if folder.parent.name == "snapshots":
        raise ValueError(f"{folder} is in the Hub's cache: hf download it with --local-dir FOLDER, and give that")
    check_target(folder, force=True)
    config = read_config(folder)
    if not is_converted(config):
        raise ValueError(
            f"{checkpoint} is not a zspa checkpoint: there is no code of hf_zspa in it to replace; hf-zspa convert "
            f"{checkpoint} OUT makes one"
        )
    if verify_checkpoint(folder).passed:
        return None
    written_by = _checked_version(config.get(VERSION), checkpoint)
    family = known_family(folder, config)
    fresh: dict[str, Any] = config | {n: v for n, v in FIELDS.items() if n not in config} | code_entries(family)
    check_names(fresh)
    check_fields(fresh, allowed_position_ids(family))
    readme = folder / "README.md"
    card = refreshed_card(read_card(readme.read_bytes(), str(readme)), fresh, folder.name) if readme.is_file() else None
    noted = config.get(DIGESTS)
    old_code = [name for name in (noted if isinstance(noted, dict) else ()) if _IS_CODE.fullmatch(name)]
    replaced = {*old_code, *(path.name for path in code_files(family)), "config.json"}
    replaced |= {"README.md"} if card is not None else set()
    with all_or_nothing(folder) as made:
        shutil.copytree(
            folder, made, dirs_exist_ok=True, copy_function=_linked,
            ignore=lambda place, names: [n for n in names if Path(place) == folder and n in replaced],
        )  # fmt: skip
        for path in code_files(family):
            (made / path.name).write_bytes(path.read_bytes())
        (made / "config.json").write_bytes(json_file(fresh))
        if card is not None:
            (made / "README.md").write_text(card, encoding="utf-8")
        found = verify_checkpoint(made)
        if not found.passed:
            wrong = [*found.problems, *(f"{file.name} {file.problem}" for file in found.files if file.problem)]
            raise ValueError(f"{checkpoint} would not pass hf-zspa verify: {wrong[0]}. Nothing was changed")
    return written_by


def _checked_version(version: Any, checkpoint: str | Path) -> str:
    try:
        later = Version(str(version)) > Version(__version__)
    except InvalidVersion:
        return "a version that its config.json does not name"
    if later:
        raise ValueError(
            f"{checkpoint} was written by hf_zspa {str(version).strip()}, a later version than the installed "
            f"{__version__}: install that one, or a newer one"
        )
    return str(version)


def _linked(source: str, target: str) -> None:
    """One file in two places, which is enough where the first is about to go; a copy where that cannot be, and of what
    is a link itself."""
    if not os.path.islink(source):
        with suppress(OSError):
            os.link(source, target)
            return
    transfer(Path(source), Path(target), False, lambda size: None)
