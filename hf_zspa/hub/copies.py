"""Weights that the Hub copies from the base's repository, so that they need not be uploaded.

A copy only saves time: whatever stands in its way, the weights are uploaded, and a line says so.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from huggingface_hub import CommitOperationCopy, HfApi, __version__, errors
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, HFValidationError
from huggingface_hub.utils import validate_repo_id

from .errors import said
from .plan import Content, Plan, Source, sha256

# Whether the installed huggingface_hub can copy large files from one repository to another on the Hub's side.
COPIES_BETWEEN_REPOSITORIES = any(f.name == "src_repo_id" for f in dataclasses.fields(CommitOperationCopy))
# What it raises where the Hub could not, for one because the two are stored in different regions.
_NOT_COPIED: tuple[type[Exception], ...] = tuple(filter(None, [getattr(errors, "FileDuplicationError", None)]))

Say = Callable[[str], None]


def check_bases(bases: list[str]) -> None:
    """Checks `base_model` of a model card.

    Raises:
        ValueError: a name cannot be a Hub id, so that the Hub would refuse the card.
    """
    for name in bases:
        try:
            validate_repo_id(name)
        except HFValidationError as error:
            raise ValueError(
                f"README.md says base_model: {name}, which is no Hub id: put the base's Hub id there, like org/name, "
                "or remove the line"
            ) from error


def with_copies(
    api: HfApi, plan: Plan, files: Mapping[str, Content], repository: str, bases: list[str], say: Say
) -> Plan:
    """A plan in which weights that the base's repository holds are copied; it is asked only if any must be sent.

    Args:
        files: what is pushed, by name.
        repository: where to.
        bases: see `check_bases`; weights are copied where there is one.
        say: is told why weights are not copied.
    """
    wanted = sorted(s.name for s in plan.steps if s.action == "send" and s.name.endswith(".safetensors"))
    if not wanted or not bases or repository in bases:
        return plan
    found: dict[str, Source] = {}
    if len(bases) > 1:
        why = f"README.md names {len(bases)} bases, and weights are copied from one alone"
    elif not COPIES_BETWEEN_REPOSITORIES:
        why = f"README.md says base_model: {bases[0]}, but huggingface_hub {__version__} copies nothing"
    else:
        found, why = _held_by(api, bases[0], {name: files[name] for name in wanted})
    if why:
        say(f"{why}: the weights are uploaded instead of copied from there")
    steps = [dataclasses.replace(s, action="copy", source=found[s.name]) if s.name in found else s for s in plan.steps]
    return dataclasses.replace(plan, steps=steps)


def _held_by(api: HfApi, base: str, weights: Mapping[str, Content]) -> tuple[dict[str, Source], str]:
    """Which weights a base's repository has, and why not all of them."""
    try:
        # The base may move before the commit is made: what is copied is of the commit that was compared.
        commit = str(api.repo_info(base).sha)
        tree: list[Any] = list(api.list_repo_tree(base, revision=commit))
    except HfHubHTTPError as error:
        return {}, f"README.md says base_model: {base}, but the Hub said {said(error)!r}"
    # Without a Xet hash a file cannot be copied from one repository to another.
    sources = {f.lfs.sha256: f.path for f in tree if getattr(f, "lfs", None) and getattr(f, "xet_hash", None)}
    digests = {name: sha256(content) for name, content in weights.items()} if sources else {}
    found = {name: Source(base, sources[digest], commit) for name, digest in digests.items() if digest in sources}
    missing = [name for name in weights if name not in found]
    if not missing:
        return found, ""
    more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
    return found, (
        f"README.md says base_model: {base}, but its commit {commit[:8]}, the newest, has no {missing[0]}{more} of "
        "this content that can be copied"
    )


def without_copies(plan: Plan) -> Plan:
    """The same plan with uploads in the place of copies."""
    steps = [dataclasses.replace(s, action="send", source=None) if s.source else s for s in plan.steps]
    return dataclasses.replace(plan, steps=steps)


def failed_to_copy(error: Exception, repository: str) -> bool:
    """Whether a commit to `repository` failed because of a copy: before it was made, and not for a lost connection."""
    response = getattr(error, "response", None)
    if response is None:  # without an answer, huggingface_hub itself missed a file, or counted the Hub's failures
        return isinstance(error, (EntryNotFoundError, *_NOT_COPIED))
    address = str(response.url)
    asked_base = "/paths-info/" in address and f"/{repository}/" not in address
    return asked_base or "/lfs-files/duplicate" in address
