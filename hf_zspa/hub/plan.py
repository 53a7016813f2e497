"""What a push would do, file by file; nothing is changed by finding out."""

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from huggingface_hub import CommitOperationAdd, CommitOperationCopy, CommitOperationDelete, HfApi
from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError
from huggingface_hub.utils.sha import git_hash, sha_fileobj

Content = Path | bytes


class Source(NamedTuple):
    """A file at a commit of a repository."""

    repository: str
    name: str
    commit: str


@dataclass(frozen=True)
class Step:
    """What happens to one file.

    Attributes:
        action: "send", "copy" (on the Hub's side), "remove" or "unchanged"; "not compared" where the Hub is not asked.
        source: of a copy, what is copied.
    """

    name: str
    size: int
    action: str
    source: Source | None = None


@dataclass(frozen=True)
class Remote:
    """A branch of a repository as it is.

    Attributes:
        exists: whether there is such a repository.
        head: the commit the branch is at; None where there is none yet.
        files: by name, as `HfApi.list_repo_tree` has them.
        lacks_branch: there is no such branch; `head` and `files` are those of the default one, which it is made from.
        private: whether only some may see the repository; None where that is not known.
        branches, tags: of the repository, the commits they are at.
    """

    exists: bool
    head: str | None
    files: Mapping[str, Any] = field(default_factory=dict)
    lacks_branch: bool = False
    private: bool | None = None
    branches: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """What a push would do to a repository.

    Attributes:
        steps: for each file of the checkpoint, and for each that is removed.
        left: other files of the repository, which stay.
        tag: the tag that would be made.
        not_compared: why the Hub was not asked, so that `remote` says nothing; "" where it was.
    """

    remote: Remote
    steps: list[Step]
    left: list[str]
    tag: str | None = None
    not_compared: str = ""

    @property
    def changes(self) -> list[Step]:
        return [step for step in self.steps if step.action != "unchanged"]

    @property
    def is_done(self) -> bool:
        """Whether the repository has all of it already."""
        return not (self.changes or self.tag or self.remote.lacks_branch)

    def bytes_to(self, action: str) -> int:
        return sum(step.size for step in self.steps if step.action == action)


def look_up(api: HfApi, repository: str, branch: str | None) -> Remote:
    """A branch of a repository, or a pull request; None for the default branch."""
    try:
        info = api.repo_info(repository)
    except RevisionNotFoundError:  # it has no commit yet
        return Remote(True, None, lacks_branch=branch is not None)
    except RepositoryNotFoundError:
        return Remote(False, None, lacks_branch=branch not in (None, "main"))
    refs = api.list_repo_refs(repository, include_pull_requests=branch is not None and branch.startswith("refs/"))
    branches = {ref.name: ref.target_commit for ref in refs.branches}
    heads = branches | {ref.ref: ref.target_commit for ref in refs.pull_requests or []}
    head = info.sha if branch is None else heads.get(branch, info.sha)
    return Remote(
        True,
        head,
        files_at(api, repository, head),
        lacks_branch=branch is not None and branch not in heads,
        private=info.private,
        branches=branches,
        tags={ref.name: ref.target_commit for ref in refs.tags},
    )


def files_at(api: HfApi, repository: str, revision: str | None) -> dict[str, Any]:
    """The files of a repository at a revision, by name, as `HfApi.list_repo_tree` has them."""
    tree = api.list_repo_tree(repository, recursive=True, revision=revision)
    return {item.path: item for item in tree if hasattr(item, "blob_id")}


def compared(files: Mapping[str, Content], there: Mapping[str, Any]) -> list[Step]:
    """Whether files, by name, are to be sent to a repository with the files `there`."""
    return [_step(name, content, there.get(name)) for name, content in sorted(files.items())]


def operations(plan: Plan, files: Mapping[str, Content]) -> list[Any]:
    """What `create_commit` is to do for the changes of a plan."""
    operations: list[Any] = []
    for step in plan.changes:
        if step.action == "remove":
            operations.append(CommitOperationDelete(step.name))
        elif step.source is not None:
            base, name, commit = step.source
            between = {"src_repo_id": base, "src_repo_type": "model", "src_revision": commit}
            operations.append(CommitOperationCopy(name, step.name, **between))  # type: ignore[arg-type]
        else:
            content = files[step.name]
            operations.append(CommitOperationAdd(step.name, content if isinstance(content, bytes) else str(content)))
    return operations


def size_of(content: Content) -> int:
    return len(content) if isinstance(content, bytes) else content.stat().st_size


def sha256(content: Content) -> str:
    with io.BytesIO(content) if isinstance(content, bytes) else content.open("rb") as file:
        return sha_fileobj(file).hex()


def _step(name: str, content: Content, there: Any) -> Step:
    size = size_of(content)
    if there is not None and there.size == size:
        if there.lfs:
            same = there.lfs.sha256 == sha256(content)
        else:
            same = there.blob_id == git_hash(content if isinstance(content, bytes) else content.read_bytes())
        return Step(name, size, "unchanged" if same else "send")
    return Step(name, size, "send")
