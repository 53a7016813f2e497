"""Weights that the Hub copies from the base's repository, so that they need not be uploaded.

A copy only saves time: whatever stands in its way, the weights are uploaded, and a line says so.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from huggingface_hub import CommitOperationCopy, HfApi, errors
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    RepositoryNotFoundError,
)
from huggingface_hub.utils import validate_repo_id

from .errors import said
from .plan import Content, Plan, sha256

# Whether the installed huggingface_hub can copy large files from one repository to another on the Hub's side.
COPIES_BETWEEN_REPOSITORIES = any(f.name == "src_repo_id" for f in dataclasses.fields(CommitOperationCopy))
# What it raises where the Hub could not, for one because the two are stored in different regions.
_NOT_COPIED: tuple[type[Exception], ...] = tuple(filter(None, [getattr(errors, "FileDuplicationError", None)]))
COPY_FAILURES: tuple[type[Exception], ...] = (HfHubHTTPError, EntryNotFoundError, *_NOT_COPIED)

Say = Callable[[str], None]


def check_base_name(base: Any) -> None:
    """Checks `base_model` of a model card, where it is one name.

    Raises:
        ValueError: it cannot be a Hub id, so that the Hub would refuse the card.
    """
    try:
        if isinstance(base, str):
            validate_repo_id(base)
    except HFValidationError as error:
        raise ValueError(
            f"README.md says base_model: {base}, which is no Hub id: put the base's Hub id there, like org/name, or "
            "remove the line"
        ) from error


def with_copies(api: HfApi, plan: Plan, files: Mapping[str, Content], repository: str, base: Any, say: Say) -> Plan:
    """A plan in which weights that the base's repository holds are copied; it is asked only if any must be sent.

    Args:
        files: what is pushed, by name.
        repository: where to.
        base: `base_model` of the model card.
        say: is told why nothing can be copied.
    """
    wanted = {s.name for s in plan.steps if s.action == "send" and s.name.endswith(".safetensors")}
    if not wanted or not COPIES_BETWEEN_REPOSITORIES or not isinstance(base, str) or base == repository:
        return plan
    try:
        tree: list[Any] = list(api.list_repo_tree(base))
    except HfHubHTTPError as error:
        unknown = isinstance(error, RepositoryNotFoundError) and not isinstance(error, GatedRepoError)
        why = (
            "the Hub has no such repository, or the token may not see it"
            if unknown
            else f"the Hub said {said(error)!r}"
        )
        say(f"README.md says base_model: {base}, but {why}: the weights are uploaded instead of copied from there")
        return plan
    # Without a Xet hash a file cannot be copied from one repository to another.
    sources = {f.lfs.sha256: f.path for f in tree if getattr(f, "lfs", None) and getattr(f, "xet_hash", None)}
    found = {name: sources.get(sha256(files[name])) for name in wanted} if sources else {}
    steps = [
        dataclasses.replace(step, action="copy", source=(base, source)) if (source := found.get(step.name)) else step
        for step in plan.steps
    ]
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
