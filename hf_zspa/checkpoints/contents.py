"""What a checkpoint holds, in a folder or at one commit of a repository; nothing of it is run."""

import glob
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import HfApi, snapshot_download

from .file_policy import is_of_tools, is_plain, shown
from .resolve import HUB_ERRORS, hub_id, local_folder, nowhere


@dataclass(frozen=True)
class Contents:
    """What a checkpoint holds.

    Attributes:
        folder: where its files can be read; of a repository, its JSON files and its code alone.
        names: of all its files, with the folders in it that they are in; without those of `.git` and of the Hub's
            client, which are passed over in a folder.
        oddities: what is there beside files that can be read and folders that can be listed, in a sentence each.
        commit: of a repository, the one that all of this is of.
    """

    folder: Path
    names: list[str]
    oddities: list[str]
    commit: str | None = None


def contents_of(checkpoint: str | Path) -> Contents:
    """What a folder holds, or a Hub id with `@revision` behind it if wanted; no weights are downloaded.

    Raises:
        ValueError: there is no such folder or repository, or the Hub could not be asked. What an earlier call left in
            the Hub's cache is never taken for what the Hub has now.
    """
    folder = local_folder(checkpoint)
    if folder is not None:
        return _of_folder(folder)
    name, _, revision = hub_id(checkpoint).partition("@")
    try:
        return _of_repository(name, revision or None)
    except HUB_ERRORS as error:
        raise ValueError(nowhere(checkpoint, error, revision)) from error


def _of_folder(folder: Path) -> Contents:
    allowed = [folder]
    if folder.parent.name == "snapshots":  # in the Hub's cache, where every file is a link
        allowed.append(folder.parent.parent / "blobs")
    names: list[str] = []
    oddities: list[str] = []
    for path in _everything(folder, oddities):
        name = path.relative_to(folder).as_posix()
        try:
            mode = path.lstat().st_mode
            if stat.S_ISREG(mode) or (stat.S_ISLNK(mode) and _leads_to_a_file_in(allowed, path)):
                names.append(name)
            elif stat.S_ISLNK(mode):
                oddities.append(f"{name} is a link to a folder, or to what is not in the checkpoint: {_INSTEAD}")
            elif not stat.S_ISDIR(mode):
                oddities.append(f"{name} is neither a file nor a folder: remove it")
        except OSError as error:
            oddities.append(_unreadable(name, error))
    return Contents(folder, names, oddities)


_INSTEAD = "put in its place what it leads to"


def _everything(folder: Path, oddities: list[str]) -> Iterator[Path]:
    """All that is in a folder and in those below; what cannot be listed is added to `oddities`."""

    def missed(error: OSError) -> None:
        oddities.append(_unreadable(Path(error.filename).relative_to(folder).as_posix(), error))

    for place, folders, files in os.walk(folder, onerror=missed):
        here = Path(place)
        linked = {name for name in folders if os.path.islink(here / name)}
        folders[:] = sorted(
            name for name in folders if name in linked or not is_of_tools((here / name).relative_to(folder).as_posix())
        )
        yield from (here / name for name in sorted([*folders, *files]))


def _leads_to_a_file_in(folders: list[Path], link: Path) -> bool:
    return link.is_file() and any(link.resolve().is_relative_to(folder) for folder in folders)


def _unreadable(name: str, error: OSError) -> str:
    return f"{name} cannot be read ({error.strerror}), so that nobody knows what is in it: chmod or remove it"


def _of_repository(name: str, revision: str | None) -> Contents:
    api = HfApi()
    commit = api.model_info(name, revision=revision).sha
    if commit is None:
        raise ValueError(f"the Hub did not say which commit of {name} it has: run the same command again")
    names = sorted(api.list_repo_files(name, revision=commit))
    wanted = [path for path in names if _is_read(path)]
    folder = Path(snapshot_download(name, revision=commit, allow_patterns=[glob.escape(path) for path in wanted]))
    missing = [path for path in wanted if not (folder / path).is_file()]
    if missing:
        raise ValueError(f"the Hub did not send {shown(', '.join(missing))} of {name}: run the same command again")
    return Contents(folder, names, [], commit)


def _is_read(name: str) -> bool:
    lowered = name.lower()
    return is_plain(name) and (lowered.endswith(".json") or (lowered.endswith(".py") and "/" not in name))
