"""What is asked of a push, and whether that makes sense: by itself, and for the repository as it is."""

import re
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub.constants import ENDPOINT
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from ..models.given import open_image
from .plan import Remote

# What git takes for a branch or a tag, and nothing that means something in a snippet of Python or on a command line.
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*(/[A-Za-z0-9_][A-Za-z0-9_.+-]*)*", re.ASCII)
_COMMIT = re.compile(r"[0-9a-fA-F]{40}")
_PULL_REQUEST = re.compile(r"refs/pr/[1-9][0-9]*")


@dataclass(frozen=True)
class Request:
    """The arguments of `push_checkpoint`, which says what they mean."""

    checkpoint: Path
    repository: str
    private: bool = False
    revision: str | None = None
    create_pr: bool = False
    tag: str | None = None
    message: str | None = None
    results: Path | None = None
    picture: Path | None = None

    @property
    def to_pull_request(self) -> bool:
        """Whether what is sent waits for a merge, to be another commit then."""
        return self.create_pr or bool(self.revision and _PULL_REQUEST.fullmatch(self.revision))

    def url(self) -> str:
        """Where on the Hub to look at what is pushed."""
        branch = self.revision or ""
        if self.to_pull_request and branch.startswith("refs/"):
            return f"{ENDPOINT}/{self.repository}/discussions/{branch.rpartition('/')[2]}"
        return f"{ENDPOINT}/{self.repository}" + (f"/tree/{branch}" if branch else "")


def check_request(request: Request) -> None:
    """Checks what was typed; the Hub is not asked.

    Raises:
        ValueError: a name is none, or two options contradict each other.
    """
    if request.to_pull_request and request.tag:
        there = "--create-pr" if request.create_pr else f"--revision {request.revision}"
        raise ValueError(f"--tag names a commit of a branch: leave it out with {there}, tag what is merged")
    _check_id(request.repository)
    if request.revision is not None and not _PULL_REQUEST.fullmatch(request.revision):
        _check_name("--revision", request.revision, "a branch, such as next, or leave it out for the default one")
    elif request.create_pr and request.revision:
        raise ValueError(f"--create-pr opens another pull request: leave it out to add to {request.revision}")
    if request.tag is not None:
        _check_name("--tag", request.tag, "a new tag, such as v1, or leave it out")
        if request.tag in ("main", "HEAD", request.revision):
            raise ValueError(f"--tag {request.tag} would have the name of a branch: give a new tag, such as v1")
    if request.picture is not None:
        open_image(request.picture)
        if request.picture.suffix.lower() != ".png":
            raise ValueError(f"{request.picture} must be a PNG, as hf-zspa visualize writes it")


def check_fits(request: Request, remote: Remote) -> None:
    """Checks what was typed against the repository as it is.

    Raises:
        ValueError: it is public though --private was typed, there is nothing to open a pull request in, or a name is
            that of something else.
    """
    repository, branch = request.repository, request.revision
    if request.private and remote.exists and not remote.private:
        known = "is public" if remote.private is False else "is there, and the Hub did not say that it is private"
        raise ValueError(
            f"{repository} {known}, and a push does not change that: make it private in its settings on the Hub first, "
            "or leave --private out"
        )
    if branch in remote.tags and remote.lacks_branch:
        raise ValueError(f"{branch} is a tag of {repository}, which never moves: --revision must name a branch")
    if request.tag in remote.branches:
        raise ValueError(f"{request.tag} is a branch of {repository}: give a new --tag, such as v1")
    if request.to_pull_request and not remote.exists:
        raise ValueError(f"the Hub has no repository {repository}, or the token may not see it: push to make it first")
    if request.to_pull_request and remote.lacks_branch:
        what = "branch to open a pull request for" if request.create_pr else "pull request"
        raise ValueError(f"{repository} has no {what} of the name {branch}: give one that is there")


def _check_id(repository: str) -> None:
    try:
        validate_repo_id(repository)
    except HFValidationError as error:
        raise ValueError(
            f"{repository!r} is no Hub id, it must be like org/name: letters, digits and single - _ . in both, "
            "96 at most in each, and no .git at the end"
        ) from error
    if "/" not in repository:
        raise ValueError(
            f"{repository!r} does not say whose repository it is: give your user name or organization with it, like "
            f"org/{repository}"
        )


def _check_name(option: str, name: str, instead: str) -> None:
    if _COMMIT.fullmatch(name):
        raise ValueError(f"{option} {name} is a commit: give {instead}")
    wrong = ".." in name or name.startswith("refs/") or any(p.endswith((".", ".lock")) for p in name.split("/"))
    if wrong or not _NAME.fullmatch(name):
        raise ValueError(f"{option} {name!r} is no name: give {instead}; letters, digits and . _ + - / may be in it")
