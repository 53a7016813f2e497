"""What a push would do, file by file; nothing is changed by finding out."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

from huggingface_hub import CommitOperationAdd, CommitOperationCopy, CommitOperationDelete, HfApi
from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

from ..checkpoints.card import PICTURE
from ..checkpoints.file_policy import COMPILED, PICKLED, file_effect, is_another_of, problem_of, shown, taken_for
from ..checkpoints.files import BLOCK
from ..checkpoints.json_policy import leads_elsewhere
from .leftovers import is_read_by_name

CARD = ("README.md", PICTURE)

# What transformers would load before, or beside, the weights and the config of the checkpoint.
_WEIGHTS = ("*.safetensors", "*.index.json")
_READ = 1 << 24  # bytes of JSON that are fetched to be looked at; what transformers reads is smaller

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
        steps: for each file of the checkpoint, and for each that is removed: see `make_plan`.
        left: other files of the repository, which stay.
        reported: of these, what `hf-zspa verify` will say of the repository because of them, in a sentence each.
        tag: the tag that would be made.
        pins: whether a second commit would name the first in the model card.
        opened: the address of an open pull request that has all of it already.
        compared: whether the Hub was asked; else `remote` says nothing.
    """

    remote: Remote
    steps: list[Step]
    left: list[str]
    reported: list[str] = field(default_factory=list)
    tag: str | None = None
    pins: bool = False
    opened: str | None = None
    compared: bool = True

    @property
    def changes(self) -> list[Step]:
        return [step for step in self.steps if step.action != "unchanged"]

    @property
    def content_changes(self) -> list[Step]:
        """The changes to what a user loads: all but the card."""
        return [step for step in self.changes if step.name not in CARD]

    @property
    def is_done(self) -> bool:
        """Whether the repository has all of it already."""
        return self.opened is not None or not (self.changes or self.tag or self.remote.lacks_branch)

    def bytes_to(self, action: str) -> int:
        return sum(step.size for step in self.steps if step.action == action)

    def with_file(self, name: str, content: Content) -> "Plan":
        """The same with one more file."""
        steps = [*self.steps, _step(name, content, self.remote.files.get(name))]
        return replace(
            self,
            steps=sorted(steps, key=lambda step: (step.action == "remove", step.name)),
            left=[other for other in self.left if other != name],
        )


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


def must_go(name: str) -> bool:
    """Whether a file of a repository, which the checkpoint does not have, must not stay beside it.

    These are weights and pickled files beside the checkpoint's own, which transformers could load, and in any folder
    code, compiled or not, and files that lead transformers elsewhere by their names. What else `hf-zspa verify`
    refuses, such as a notebook, or the state of an optimizer in the folder of a training, is a person's and stays. JSON
    that leads elsewhere by what it holds is for `make_plan`, which can read it.
    """
    folder, _, file = taken_for(name).rpartition("/")
    if file.endswith((".py", *COMPILED)) or file_effect(name):
        return True
    return not folder and (file.endswith(PICKLED) or any(fnmatchcase(file, pattern) for pattern in _WEIGHTS))


def make_plan(files: Mapping[str, Content], remote: Remote, read: Callable[[str], bytes]) -> Plan:
    """Compares files, by name, with what a repository holds.

    Beside what `must_go` and what `is_read_by_name`, JSON goes that leads transformers elsewhere, and what some systems
    take for one of the files.

    Args:
        read: gives the content of a file of the repository; it is asked for JSON files that would stay.
    """
    steps = [_step(name, content, remote.files.get(name)) for name, content in sorted(files.items())]
    left, reported = [], []
    for name in sorted(name for name in remote.files if name not in files and name != ".gitattributes"):
        leading = _led_elsewhere(name, remote.files[name].size, read)
        problem = problem_of(name, in_folder=False)
        if _goes(name) or leading or is_another_of(name, files):
            steps.append(Step(name, remote.files[name].size, "remove"))
            continue
        left.append(name)
        if problem or leading is None:
            reported.append(f"{shown(name)} {problem or 'is no JSON, or more of it than anybody reads'}")
    return Plan(remote, steps, left, reported)


def _led_elsewhere(name: str, size: int, read: Callable[[str], bytes]) -> list[str] | None:
    """Where a file leads transformers, if it is JSON; None where it cannot be read as that."""
    if _goes(name) or not taken_for(name).endswith(".json"):
        return []
    if size > _READ:
        return None
    try:
        return leads_elsewhere(name, read(name))
    except ValueError:
        return None


def plan_without_hub(files: Mapping[str, Content]) -> Plan:
    """What would be compared with the Hub, if that could be asked."""
    steps = [Step(name, size_of(content), "not compared") for name, content in sorted(files.items())]
    return Plan(Remote(False, None), steps, [], compared=False)


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


def is_same_at(api: HfApi, repository: str, revision: str, plan: Plan) -> bool:
    """Whether a user who loads `revision` gets what the branch of a plan holds now."""
    try:
        there = files_at(api, repository, plan.remote.tags.get(revision, revision))
    except RevisionNotFoundError:
        return False
    return _loaded(there, plan) == _loaded(plan.remote.files, plan)


def _loaded(files: Mapping[str, Any], plan: Plan) -> dict[str, str]:
    """The digests of what a user of the checkpoint loads, by name."""
    names = {step.name for step in plan.steps}.difference(CARD)
    return {name: item.blob_id for name, item in files.items() if name in names or _goes(name)}


def _goes(name: str) -> bool:
    return must_go(name) or is_read_by_name(name)


def size_of(content: Content) -> int:
    return len(content) if isinstance(content, bytes) else content.stat().st_size


def _step(name: str, content: Content, there: Any) -> Step:
    size = size_of(content)
    if there is not None and there.size == size:
        large = there.lfs is not None
        known = there.lfs.sha256 if large else there.blob_id
        if (sha256(content) if large else _git_digest(content)) == known:
            return Step(name, size, "unchanged")
    return Step(name, size, "send")


def _git_digest(content: Content) -> str:
    data = content if isinstance(content, bytes) else content.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def sha256(content: Content) -> str:
    """SHA-256 in hexadecimal; a file is read in blocks."""
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    digest = hashlib.sha256()
    with content.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()
