"""What a checkpoint holds, in a folder or at one commit of a repository; nothing of it is run."""

import glob
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import HfApi, snapshot_download

from .base_checkpoint import HUB_ERRORS, hub_failure, hub_id


@dataclass(frozen=True)
class Contents:
    """What a checkpoint holds.

    Attributes:
        folder: where its files can be read; of a repository, its JSON files and its code alone.
        names: of all its files, with the folders in it that they are in.
        links: names of links to a folder, to nothing or to a place outside of it.
        commit: of a repository, the one that all of this is of.
    """

    folder: Path
    names: list[str]
    links: list[str]
    commit: str | None = None


def contents_of(checkpoint: str | Path) -> Contents:
    """What a folder holds, or a Hub id with `@revision` behind it if wanted; no weights are downloaded.

    Raises:
        ValueError: there is no such folder or repository, or the Hub could not be asked. What an earlier call left in
            the Hub's cache is never taken for what the Hub has now.
    """
    folder = Path(checkpoint).expanduser()
    if folder.is_dir():
        return _of_folder(folder.resolve())
    name, _, revision = hub_id(checkpoint).partition("@")
    try:
        return _of_repository(name, revision or None)
    except HUB_ERRORS as error:
        raise ValueError(f"there is no folder {checkpoint}, and {hub_failure(error, revision)}") from error


def _of_folder(folder: Path) -> Contents:
    allowed = [folder]
    if folder.parent.name == "snapshots":  # in the Hub's cache, where every file is a link
        allowed.append(folder.parent.parent / "blobs")
    names, links = [], []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file():
            names.append(name)
        if path.is_symlink() and not (path.is_file() and any(path.resolve().is_relative_to(a) for a in allowed)):
            links.append(name)
    return Contents(folder, names, links)


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
        raise ValueError(f"the Hub did not send {', '.join(missing)} of {name}: run the same command again")
    return Contents(folder, names, [], commit)


def _is_read(name: str) -> bool:
    lowered = name.lower()
    return lowered.endswith(".json") or (lowered.endswith(".py") and "/" not in name)
