"""Pushing a checkpoint.

All that a push sends becomes visible in one commit at its end. Until then the repository is as it was; what has been
uploaded is known to the Hub, so that the same push goes on where it was interrupted.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationAdd, CommitOperationCopy, CommitOperationDelete, HfApi, get_token
from huggingface_hub.errors import RepositoryNotFoundError

from ..inference import open_image
from ..model_card import PICTURE, card, merged, metadata_of, picture_caption, pinned_revision
from .errors import hub_errors
from .plan import Content, Plan, Remote, look_up, make_plan, weights_of_base
from .publishable import check_publishable, checkpoint_files

_CARD = ("README.md", PICTURE)


@dataclass(frozen=True)
class Request:
    """What is to be pushed, and where.

    Attributes:
        private: of a repository that is made.
        revision: the branch; None for the default one. It is made where there is none.
        create_pr: open a pull request instead of writing to the branch.
        tag: a name for the commit, a new one.
        message: of the commit.
        results: a `results.json` of `hf-zspa eval` for the card's metadata.
        picture: a PNG of kept tokens for the card, in place of the one in the folder.
    """

    checkpoint: Path
    repository: str
    private: bool = False
    revision: str | None = None
    create_pr: bool = False
    tag: str | None = None
    message: str | None = None
    results: Path | None = None
    picture: Path | None = None


@dataclass(frozen=True)
class Pushed:
    """What came of a push: where to look, and its last commit; None where there was nothing to change."""

    plan: Plan
    url: str
    commit: str | None


class Push:
    """One push.

    Raises:
        ValueError: the folder cannot be published, or the request makes no sense.
    """

    def __init__(self, request: Request):
        if request.create_pr and request.tag:
            raise ValueError("--tag names a commit of a branch: leave it out with --create-pr, tag what is merged")
        self.request = request
        self.folder = request.checkpoint.expanduser().resolve()
        self.config = check_publishable(self.folder)
        self.results = None if request.results is None else _read_results(request.results)
        if request.picture is not None:
            open_image(request.picture)
            if request.picture.suffix.lower() != ".png":
                raise ValueError(f"{request.picture} must be a PNG, as hf-zspa visualize writes it")
        self.api = HfApi()

    def plan(self) -> Plan:
        """What `run` would do; nothing is changed, here or on the Hub.

        Raises:
            ValueError: the Hub cannot be asked, or the card here and there contradict each other.
        """
        with hub_errors(self.request.repository):
            return self._plan()[0]

    def run(self) -> Pushed:
        """Refreshes the card, here too, and commits what differs.

        Raises:
            ValueError: there is no token, the tag exists, or the Hub refused or was lost; it says what to do.
        """
        request = self.request
        if get_token() is None:
            raise ValueError("there is no token to write to the Hub with: run hf auth login, or set HF_TOKEN")
        with hub_errors(request.repository):
            self.api.whoami()
            self._check_tag()
            plan, files = self._plan()
            if not plan.changes:
                return Pushed(plan, self._url(), None)
            if not plan.remote.exists:
                self.api.create_repo(request.repository, private=request.private, exist_ok=True)
            if request.revision and plan.remote.head is None:
                self.api.create_branch(request.repository, branch=request.revision, exist_ok=True)
            commit = self._commit(
                plan, files, request.message or f"{self.folder.name}: a checkpoint that prunes itself"
            )
            self._keep(files)
            if request.create_pr:
                return Pushed(plan, commit.pr_url, commit.oid)
            if request.tag:
                self.api.create_tag(request.repository, tag=request.tag, revision=commit.oid)
                return Pushed(plan, self._url(), commit.oid)
            if all(step.name in _CARD for step in plan.changes):
                return Pushed(plan, self._url(), commit.oid)
            return Pushed(plan, self._url(), self._pin(commit.oid))

    def _plan(self) -> tuple[Plan, dict[str, Content]]:
        remote = look_up(self.api, self.request.repository, self.request.revision)
        existing = self._existing_card(remote)
        base = metadata_of(existing or "").get("base_model")
        pin = self.request.tag or pinned_revision(existing or "")
        files: dict[str, Content] = {path.name: path for path in checkpoint_files(self.folder)}
        if self.request.picture is not None:
            files[PICTURE] = self.request.picture
        files["README.md"] = self._card(existing, pin).encode()
        return make_plan(files, remote, weights_of_base(self.api, base)), files

    def _existing_card(self, remote: Remote) -> str | None:
        """The card of the folder and that of the repository as one: what a person wrote in either stays."""
        readme = self.folder / "README.md"
        here = readme.read_text(encoding="utf-8") if readme.is_file() else None
        if "README.md" not in remote.files:
            return here
        file = self.api.hf_hub_download(self.request.repository, "README.md", revision=remote.head)
        there = Path(file).read_text(encoding="utf-8")
        return there if here is None else merged(here, there, self.request.repository)

    def _card(self, existing: str | None, revision: str | None) -> str:
        picture = picture_caption(self.request.picture or self.folder / PICTURE)
        return card(
            self.config, self.request.repository, existing=existing, revision=revision, picture=picture,
            results=self.results,
        )  # fmt: skip

    def _commit(self, plan: Plan, files: dict[str, Content], message: str) -> Any:
        operations: list[Any] = []
        for step in plan.changes:
            if step.action == "remove":
                operations.append(CommitOperationDelete(step.name))
            elif step.source is not None:
                repository, name = step.source
                between = {"src_repo_id": repository, "src_repo_type": "model"}
                operations.append(CommitOperationCopy(name, step.name, **between))  # type: ignore[arg-type]
            else:
                content = files[step.name]
                operations.append(
                    CommitOperationAdd(step.name, content if isinstance(content, bytes) else str(content))
                )
        return self.api.create_commit(
            self.request.repository, operations, commit_message=message, revision=self.request.revision,
            create_pr=self.request.create_pr, parent_commit=plan.remote.head,
        )  # fmt: skip

    def _pin(self, commit: str) -> str:
        """A second commit, in which the card's snippets name the first: a card cannot know its own commit."""
        text = self._card((self.folder / "README.md").read_text(encoding="utf-8"), commit)
        (self.folder / "README.md").write_text(text, encoding="utf-8")
        return self.api.create_commit(
            self.request.repository, [CommitOperationAdd("README.md", text.encode())],
            commit_message=f"Pin {commit[:8]} in the model card", revision=self.request.revision, parent_commit=commit,
        ).oid  # fmt: skip

    def _keep(self, files: dict[str, Content]) -> None:
        """Writes the card and its picture into the folder, as they are on the Hub now."""
        for name in _CARD:
            content = files.get(name)
            if content is not None and content != self.folder / name:
                data = content if isinstance(content, bytes) else content.read_bytes()
                (self.folder / name).write_bytes(data)

    def _check_tag(self) -> None:
        tag, repository = self.request.tag, self.request.repository
        try:
            tags = [found.name for found in self.api.list_repo_refs(repository).tags] if tag else []
        except RepositoryNotFoundError:
            return
        if tag in tags:
            raise ValueError(f"{repository} has the tag {tag} already, and a tag never moves: choose another --tag")

    def _url(self) -> str:
        branch = f"/tree/{self.request.revision}" if self.request.revision else ""
        return f"{self.api.endpoint}/{self.request.repository}{branch}"


def _read_results(path: Path) -> dict[str, Any]:
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
        known = isinstance(results["rows"], list)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not a results.json of hf-zspa eval: {error}") from error
    if not known:
        raise ValueError(f"{path} is not a results.json of hf-zspa eval: its rows are no list")
    return results
