"""Weights that the Hub copies from the base's repository, so that they need not be uploaded.

A copy only saves time: whatever stands in its way, the weights are uploaded, and a line says so.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from huggingface_hub import CommitOperationCopy, HfApi, __version__, errors
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    RepositoryNotFoundError,
)
from huggingface_hub.utils import validate_repo_id

from .errors import said
from .plan import Content, Plan, Source, sha256

# Whether the installed huggingface_hub can copy large files from one repository to another on the Hub's side.
COPIES_BETWEEN_REPOSITORIES = any(f.name == "src_repo_id" for f in dataclasses.fields(CommitOperationCopy))
# What it raises where the Hub could not, for one because the two are stored in different regions.
_NOT_COPIED: tuple[type[Exception], ...] = tuple(filter(None, [getattr(errors, "FileDuplicationError", None)]))
COPY_FAILURES: tuple[type[Exception], ...] = (HfHubHTTPError, EntryNotFoundError, *_NOT_COPIED)

Say = Callable[[str], None]


def base_names(base: Any) -> list[str]:
    """The names in `base_model` of a model card.

    Raises:
        ValueError: one of them cannot be a Hub id, so that the Hub would refuse the card.
    """
    names = base if isinstance(base, list) else [base] if base else []
    for name in names:
        try:
            validate_repo_id(name)
        except HFValidationError as error:
            raise ValueError(
                f"README.md says base_model: {name}, which is no Hub id: put the base's Hub id there, like org/name, "
                "or remove the line"
            ) from error
    return names


def with_copies(
    api: HfApi, plan: Plan, files: Mapping[str, Content], repository: str, bases: list[str], say: Say
) -> Plan:
    """A plan in which weights that the base's repository holds are copied; it is asked only if any must be sent.

    Args:
        files: what is pushed, by name.
        repository: where to.
        bases: see `base_names`; they are asked where there is one.
        say: is told why weights are not copied.
    """
    wanted = {s.name for s in plan.steps if s.action == "send" and s.name.endswith(".safetensors")}
    if not wanted or not bases or repository in bases:
        return plan
    (base, *others) = bases
    instead = "the weights are uploaded instead of copied from there"
    if others:
        say(f"README.md names {len(bases)} bases, and weights are copied from one alone: {instead}")
        return plan
    if not COPIES_BETWEEN_REPOSITORIES:
        say(f"README.md says base_model: {base}, but huggingface_hub {__version__} copies nothing: {instead}")
        return plan
    try:
        # The base may move before the commit is made: what is copied is of the commit that was compared.
        commit = str(api.repo_info(base).sha)
        tree: list[Any] = list(api.list_repo_tree(base, revision=commit))
    except HfHubHTTPError as error:
        unknown = isinstance(error, RepositoryNotFoundError) and not isinstance(error, GatedRepoError)
        why = (
            "the Hub has no such repository, or the token may not see it"
            if unknown
            else f"the Hub said {said(error)!r}"
        )
        say(f"README.md says base_model: {base}, but {why}: {instead}")
        return plan
    # Without a Xet hash a file cannot be copied from one repository to another.
    sources = {f.lfs.sha256: f.path for f in tree if getattr(f, "lfs", None) and getattr(f, "xet_hash", None)}
    digests = {name: sha256(files[name]) for name in sorted(wanted)} if sources else {}
    found = {name: Source(base, sources[digest], commit) for name, digest in digests.items() if digest in sources}
    if missing := sorted(wanted - set(found)):
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        say(
            f"README.md says base_model: {base}, but its commit {commit[:8]}, the newest, has no {missing[0]}{more} "
            f"of this content that can be copied: {instead}"
        )
    steps = [dataclasses.replace(s, action="copy", source=found[s.name]) if s.name in found else s for s in plan.steps]
    return dataclasses.replace(plan, steps=steps)


def without_copies(plan: Plan) -> Plan:
    """The same plan with uploads in the place of copies."""
    steps = [dataclasses.replace(s, action="send", source=None) if s.source else s for s in plan.steps]
    return dataclasses.replace(plan, steps=steps)


def failed_to_copy(error: BaseException, repository: str) -> bool:
    """Whether a commit to `repository` failed because of a copy: before it was made, and not for a lost connection."""
    response = getattr(error, "response", None)
    if response is None:  # without an answer, huggingface_hub itself missed a file, or counted the Hub's failures
        return isinstance(error, (EntryNotFoundError, *_NOT_COPIED))
    address = str(response.url)
    asked_base = "/paths-info/" in address and f"/{repository}/" not in address
    return asked_base or "/lfs-files/duplicate" in address
