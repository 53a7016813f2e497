"""From a folder, a Hub id or a name of a shipped checkpoint to a path; and what the Hub raises on the way."""

import glob
import sys
from difflib import get_close_matches
from pathlib import Path
from shlex import quote
from typing import Any

from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from .base import shards, weight_names
from .file_policy import LEGAL, STOCK
from .shipped import SHIPPED, shipped_checkpoint

# huggingface_hub has another HTTP library in each of its major versions: what it raises for an answer that is an error,
# and for a lost connection.
_LIBRARIES = {sys.modules[kind.__module__.split(".")[0]] for kind in HfHubHTTPError.__mro__}
_NAMES = ("TransportError", "RequestException")
FAILURES: tuple[type[Exception], ...] = (
    HfHubHTTPError,
    LocalEntryNotFoundError,  # a download for which the Hub could not be reached
    ConnectionError,
    TimeoutError,
    *(getattr(library, name) for library in _LIBRARIES for name in _NAMES if hasattr(library, name)),
)
# What asking the Hub for a repository may raise.
HUB_ERRORS: tuple[type[Exception], ...] = (HFValidationError, LocalEntryNotFoundError, *FAILURES)
# How a repository is downloaded, by the names that transformers and huggingface_hub have for it.
HUB_OPTIONS = ("cache_dir", "force_download", "local_files_only", "token")


def checkpoint_folder(checkpoint: str | Path, revision: str | None = None, *, weights: bool = True, **hub: Any) -> Path:
    """The folder of a checkpoint; a Hub id is downloaded into the Hub's cache, its safe files only, and of its weights
    those that transformers loads.

    Args:
        checkpoint: folder, Hub id with `@revision` behind it if wanted, or a name of one inside this package.
        revision: branch, tag or commit of a Hub id.
        weights: download the weights too; else `with_weights` does, of the same commit.
        hub: any of `HUB_OPTIONS`; of a folder they mean nothing.

    Raises:
        ValueError: there is no such folder or Hub repository, the Hub cannot be reached, or its index names no weights.
    """
    folder = local_folder(checkpoint)
    if folder is not None:
        if revision is not None:
            raise ValueError(f"revision {revision} has no meaning for the folder {checkpoint}: give a Hub id")
        return folder
    _, _, behind = hub_id(checkpoint).partition("@")
    if behind and revision not in (None, behind):
        raise ValueError(f"{checkpoint} has a revision, and {revision} is another: give one of the two")
    wanted = [*(f"*{suffix}" for suffix in (*STOCK, ".py")), *(f"{name}*" for name in (*LEGAL, "README.md"))]
    folder = _downloaded(checkpoint, behind or revision, wanted, ["*/*", "*.safetensors"], **hub)
    return with_weights(checkpoint, folder, **hub) if weights else folder


def with_weights(checkpoint: str | Path, folder: Path, variant: str | None = None, **hub: Any) -> Path:
    """The folder that `checkpoint_folder` found without weights, with those that transformers loads: the single file if
    there is one, else what the index names. Others, such as `consolidated.safetensors`, stay on the Hub.

    Args:
        variant: of the weights, as transformers' `from_pretrained` takes it.

    Raises:
        ValueError: as `checkpoint_folder`.
    """
    if local_folder(checkpoint) is not None:
        return folder
    single, index = weight_names(variant)
    folder = _downloaded(checkpoint, folder.name, [single, index], **hub)
    if not (folder / single).is_file() and (folder / index).is_file():
        named = [glob.escape(name) for name in shards(folder, index)]
        return _downloaded(checkpoint, folder.name, named, **hub)
    return folder


def _downloaded(
    checkpoint: str | Path, revision: str | None, wanted: list[str], ignored: list[str] | None = None, **hub: Any
) -> Path:
    name = str(checkpoint).partition("@")[0]
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=wanted, ignore_patterns=ignored, **hub))
    except HUB_ERRORS as error:
        raise ValueError(nowhere(checkpoint, error, revision)) from error


def local_folder(checkpoint: str | Path) -> Path | None:
    """The folder of a checkpoint that is on this machine, or inside this package by a name such as "embedded"; None
    where it can only be on the Hub.

    Raises:
        ValueError: it is a file, or such a name and that of a checkpoint's folder too; what it names cannot be made, or
            a replacement of the folder was killed when it had moved it away.
    """
    folder = Path(checkpoint).expanduser()
    if str(checkpoint) in SHIPPED:
        if (folder / "config.json").is_file():
            raise ValueError(
                f"{checkpoint} is a checkpoint inside hf_zspa, and a folder here: give ./{checkpoint} for the folder, "
                "or rename it"
            )
        return shipped_checkpoint(str(checkpoint))
    if folder.is_file():
        raise ValueError(f"{checkpoint} is a file, but must be the folder of a checkpoint")
    there = folder.resolve()
    if there.is_dir():
        return there
    for left in there.parent.glob(f".{glob.escape(there.name)}.????????/previous"):  # as `all_or_nothing` names it
        raise ValueError(
            f"there is no folder {checkpoint} any more: what replaced it was killed. Move it back: "
            f"mv {quote(str(left))} {quote(str(there))}"
        )
    return None


def hub_id(checkpoint: str | Path) -> str:
    """What is no folder, as a Hub id; raises `ValueError` where it can only be the name of a folder."""
    if isinstance(checkpoint, Path) or Path(checkpoint).is_absolute() or checkpoint.startswith(("./", "../", "~")):
        raise ValueError(f"there is no folder {checkpoint}")
    return checkpoint


def nowhere(checkpoint: str | Path, error: Exception, revision: str | None) -> str:
    """Why there is no such checkpoint, neither here nor on the Hub; and what was meant, if that is near."""
    return f"there is no folder {checkpoint}, and {hub_failure(error, revision)}{shipped_meant(checkpoint)}"


def shipped_meant(checkpoint: str | Path) -> str:
    """The name inside this package that was meant, if one is near, as the end of a message; else nothing."""
    meant = get_close_matches(str(checkpoint), SHIPPED, n=1, cutoff=0.8)
    return f"; did you mean {meant[0]}, which is inside hf_zspa?" if meant else ""


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
    said = " ".join(str(error).split())
    if getattr(error, "response", None) is not None:
        return next(matching, f"the Hub answered: {said}")
    unreached = f"the Hub, where it could be a repository, is out of reach ({said}): check the name and the connection"
    return next(matching, unreached)
