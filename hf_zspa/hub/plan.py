"""What a push would do, file by file; nothing is changed by finding out."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi
from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

from ..allowed import COMPILED, PICKLED, file_effect, is_another_of, problem_of, shown, taken_for
from ..model_card import PICTURE
from ..redirections import leads_elsewhere
from ..transfer import BLOCK

CARD = ("README.md", PICTURE)

# What transformers would load before, or beside, the weights and the config of the checkpoint.
_WEIGHTS = ("*.safetensors", "*.index.json")

Content = Path | bytes


@dataclass(frozen=True)
class Step:
    """What happens to one file.

    Attributes:
        action: "send", "copy" (on the Hub's side), "remove" or "unchanged".
        source: of a copy, the repository and the name there.
    """

    name: str
    size: int
    action: str
    source: tuple[str, str] | None = None


@dataclass(frozen=True)
class Remote:
    """A branch of a repository as it is.

    Attributes:
        exists: whether there is such a repository.
        head: the commit the branch is at; None where there is none yet.
        files: by name, as `HfApi.list_repo_tree` has them.
        lacks_branch: there is no such branch; `head` and `files` are those of the default one, which it is made from.
    """

    exists: bool
    head: str | None
    files: Mapping[str, Any] = field(default_factory=dict)
    lacks_branch: bool = False


@dataclass(frozen=True)
class Plan:
    """What a push would do to a repository.

    Attributes:
        steps: for each file of the checkpoint, and for each file that must go: see `must_go` and `make_plan`.
        left: other files of the repository, which stay.
        reported: of these, what `hf-zspa verify` will say of the repository because of them, in a sentence each.
        tag: the tag that would be made.
    """

    remote: Remote
    steps: list[Step]
    left: list[str]
    reported: list[str] = field(default_factory=list)
    tag: str | None = None

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
        return not (self.changes or self.tag or self.remote.lacks_branch)

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


def look_up(api: HfApi, repository: str, revision: str | None) -> Remote:
    """The branch `revision`, or the default one, of a repository."""
    try:
        head = api.repo_info(repository, revision=revision).sha
    except RevisionNotFoundError:
        return Remote(True, None) if revision is None else replace(look_up(api, repository, None), lacks_branch=True)
    except RepositoryNotFoundError:
        return Remote(False, None, lacks_branch=revision not in (None, "main"))
    tree = api.list_repo_tree(repository, recursive=True, revision=head)
    return Remote(True, head, {item.path: item for item in tree if hasattr(item, "blob_id")})


def must_go(name: str) -> bool:
    """Whether a file of a repository, which the checkpoint does not have, must not stay beside it.

    These are weights that transformers would load before or beside those of the checkpoint, and what `hf-zspa verify`
    refuses in any folder: code, compiled or not, and pickled files, which a user's machine could run, and files that
    lead transformers elsewhere by their names. What `verify` refuses only because it does not know it, such as a
    notebook, is a person's and stays. JSON that leads elsewhere by what it holds is for `make_plan`, which can read it.
    """
    folder, _, file = taken_for(name).rpartition("/")
    if file.endswith((".py", *PICKLED, *COMPILED)) or file_effect(name):
        return True
    return not folder and any(fnmatchcase(file, pattern) for pattern in _WEIGHTS)


def make_plan(files: Mapping[str, Content], remote: Remote, read: Callable[[str], bytes]) -> Plan:
    """Compares files, by name, with what a repository holds.

    Beside what `must_go`, JSON goes that leads transformers elsewhere, and what some systems take for one of the files.

    Args:
        read: gives the content of a file of the repository; it is asked for JSON files that would stay.
    """
    steps = [_step(name, content, remote.files.get(name)) for name, content in sorted(files.items())]
    left, reported = [], []
    for name in sorted(name for name in remote.files if name not in files and name != ".gitattributes"):
        leading, problem = _led_elsewhere(name, read), problem_of(name, in_folder=False)
        if must_go(name) or leading or is_another_of(name, files):
            steps.append(Step(name, remote.files[name].size, "remove"))
            continue
        left.append(name)
        if problem or leading is None:
            reported.append(f"{shown(name)} {problem or 'is not valid JSON'}")
    return Plan(remote, steps, left, reported)


def _led_elsewhere(name: str, read: Callable[[str], bytes]) -> list[str] | None:
    """Where a file leads transformers, if it is JSON; None where it should be and is not, and so leads nowhere."""
    if must_go(name) or not taken_for(name).endswith(".json"):
        return []
    try:
        return leads_elsewhere(name, read(name))
    except ValueError:
        return None


def is_same_at(api: HfApi, repository: str, revision: str, plan: Plan) -> bool:
    """Whether a user who loads `revision` gets what the branch of a plan holds now."""
    there = look_up(api, repository, revision)
    return not there.lacks_branch and _loaded(there, plan) == _loaded(plan.remote, plan)


def _loaded(remote: Remote, plan: Plan) -> dict[str, str]:
    """The digests of what a user of the checkpoint loads, by name."""
    names = {step.name for step in plan.steps}.difference(CARD)
    return {name: item.blob_id for name, item in remote.files.items() if name in names or must_go(name)}


def _step(name: str, content: Content, there: Any) -> Step:
    size = len(content) if isinstance(content, bytes) else content.stat().st_size
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
