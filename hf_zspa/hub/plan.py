"""What a push would do, file by file; nothing is changed by finding out."""

import dataclasses
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationCopy, HfApi
from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError, RevisionNotFoundError

from ..transfer import BLOCK
from .publishable import is_code

# Whether the installed huggingface_hub can copy large files from one repository to another on the Hub's side.
COPIES_BETWEEN_REPOSITORIES = any(f.name == "src_repo_id" for f in dataclasses.fields(CommitOperationCopy))

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
        head: its commit; None where there is no such repository or branch.
        files: by name, as `HfApi.list_repo_tree` has them.
    """

    exists: bool
    head: str | None
    files: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """What a push would do to a repository.

    Attributes:
        steps: for each file of the checkpoint, and for code of another version that it removes.
        left: other files of the repository, which stay.
    """

    remote: Remote
    steps: list[Step]
    left: list[str]

    @property
    def changes(self) -> list[Step]:
        return [step for step in self.steps if step.action != "unchanged"]


def look_up(api: HfApi, repository: str, revision: str | None) -> Remote:
    """The branch `revision`, or the default one, of a repository."""
    try:
        head = api.repo_info(repository, revision=revision).sha
    except RevisionNotFoundError:
        return Remote(True, None)
    except RepositoryNotFoundError:
        return Remote(False, None)
    tree = api.list_repo_tree(repository, recursive=True, revision=head)
    return Remote(True, head, {item.path: item for item in tree if hasattr(item, "blob_id")})


def weights_of_base(api: HfApi, base: Any) -> dict[str, tuple[str, str]]:
    """SHA-256 → repository and name of the weights of a base on the Hub that can be copied from there.

    Args:
        base: `base_model` of the model card.

    Raises:
        ValueError: the Hub has no such repository.
    """
    if not COPIES_BETWEEN_REPOSITORIES or not isinstance(base, str):
        return {}
    try:
        tree: list[Any] = list(api.list_repo_tree(base))
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise ValueError(
            f"README.md says base_model: {base}, but the Hub has no such repository, or the token may not see it: put "
            "the base's Hub id there, or remove the line"
        ) from error
    # Without a Xet hash a file cannot be copied from one repository to another.
    weights = (file for file in tree if getattr(file, "lfs", None) and getattr(file, "xet_hash", None))
    return {file.lfs.sha256: (base, file.path) for file in weights}


def make_plan(files: Mapping[str, Content], remote: Remote, copyable: Mapping[str, tuple[str, str]]) -> Plan:
    """Compares files, by name, with what a repository holds and with what can be copied into it."""
    steps = [_step(name, content, remote.files.get(name), copyable) for name, content in sorted(files.items())]
    others = sorted(name for name in remote.files if name not in files and name != ".gitattributes")
    steps += [Step(name, remote.files[name].size, "remove") for name in others if is_code(name)]
    return Plan(remote, steps, [name for name in others if not is_code(name)])


def _step(name: str, content: Content, there: Any, copyable: Mapping[str, tuple[str, str]]) -> Step:
    size = len(content) if isinstance(content, bytes) else content.stat().st_size
    if there is not None and there.size == size:
        large = there.lfs is not None
        known = there.lfs.sha256 if large else there.blob_id
        if (_sha256(content) if large else _git_digest(content)) == known:
            return Step(name, size, "unchanged")
    if copyable and name.endswith(".safetensors"):
        source = copyable.get(_sha256(content))
        if source is not None:
            return Step(name, size, "copy", source)
    return Step(name, size, "send")


def _git_digest(content: Content) -> str:
    data = content if isinstance(content, bytes) else content.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def _sha256(content: Content) -> str:
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    digest = hashlib.sha256()
    with content.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()
