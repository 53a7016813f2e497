"""Pushing a checkpoint.

All that a push sends becomes visible in one commit. Until then the repository is as it was; what has been uploaded is
known to the Hub, so that the same push goes on where it was interrupted. A tag, or a second commit in which the card
names the first, comes after that. Each is found out about by itself and done where it is missing, so that a push which
broke off between them is mended by the same push.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from huggingface_hub import (
    CommitInfo,
    CommitOperationAdd,
    CommitOperationCopy,
    CommitOperationDelete,
    HfApi,
    get_token,
)

from ..inference import open_image
from ..model_card import PICTURE, card, merged, metadata_of, picture_caption, pinned_revision
from .copies import COPY_FAILURES, Say, check_base_name, failed_to_copy, with_copies, without_copies
from .errors import hub_errors, said
from .plan import CARD, Content, Plan, Remote, is_same_at, look_up, make_plan
from .progress import Progress
from .publishable import check_publishable, checkpoint_files


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
    """What came of a push: the plan as it was followed, where to look, and the commit that is there now; None where
    there was nothing to do."""

    plan: Plan
    url: str
    commit: str | None


class Push:
    """One push.

    Args:
        say: is told, in a line each, what a user should know while it goes on.

    Raises:
        ValueError: the folder cannot be published, or the request makes no sense.
    """

    def __init__(self, request: Request, say: Say = lambda line: None):
        if request.create_pr and request.tag:
            raise ValueError("--tag names a commit of a branch: leave it out with --create-pr, tag what is merged")
        self.request, self.say = request, say
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
            ValueError: the Hub cannot be asked, the tag names another commit, the card names a base that is no Hub id,
                or the card here and there contradict each other.
        """
        with hub_errors(self.request.repository, self.request.revision):
            return self._plan()[0]

    def run(self) -> Pushed:
        """Refreshes the card, here too, and does what is missing on the Hub: the commit, the tag, the card's pin.

        Raises:
            ValueError: as `plan`; there is no token, or the Hub refused or was lost. It says what was published up to
                there, and what to do.
        """
        request = self.request
        if get_token() is None:
            raise ValueError("there is no token to write to the Hub with: run hf auth login, or set HF_TOKEN")
        progress = Progress(self.api, request.repository, request.revision, request.create_pr)
        with hub_errors(request.repository, request.revision, progress.left):
            self.api.whoami()
            plan, files = self._plan()
            if plan.is_done:
                self._keep(files)
                return Pushed(plan, self._url(), None)
            self._make_room(plan, progress)
            head, url = progress.start, self._url()
            if plan.changes:
                commit, plan = self._commit(plan, files, progress.start)
                head, url = commit.oid, commit.pr_url or url
            self._keep(files)
            progress.commit = head
            if plan.tag:
                progress.missing = f"the tag {plan.tag}"
                self.api.create_tag(request.repository, tag=plan.tag, revision=head)
            elif plan.content_changes and request.create_pr:
                self.say("when it is merged, run the same without --create-pr: the card then names the merged commit")
            elif plan.content_changes and head:
                progress.missing = "the revision in its model card"
                head = self._pin(head)
            return Pushed(plan, url, head)

    def _plan(self) -> tuple[Plan, dict[str, Content]]:
        request = self.request
        remote = look_up(self.api, request.repository, request.revision)
        tagged = self._is_tagged(remote)
        there = self._card_there(remote)
        existing = self._existing_card(there)
        base = metadata_of(existing or "").get("base_model")
        check_base_name(base)
        files: dict[str, Content] = {**checkpoint_files(self.folder)}
        files.pop("README.md", None)
        if request.picture is not None:
            files[PICTURE] = request.picture
        plan = make_plan(files, remote, lambda name: self._there(remote, name).read_bytes())
        for problem in plan.reported:
            self.say(f"it stays in the repository, which hf-zspa verify will not pass: {problem}")
        files["README.md"] = self._card(existing, self._named_revision(plan, there)).encode()
        plan = plan.with_file("README.md", files["README.md"])
        if tagged and plan.changes:
            raise self._tag_is_taken()
        plan = with_copies(self.api, plan, files, request.repository, base, self.say)
        return replace(plan, tag=None if tagged else request.tag), files

    def _named_revision(self, plan: Plan, there: str | None) -> str | None:
        """What the card's snippets are to name: a revision that has the files of the checkpoint.

        Where files change, that is a commit yet to be made, and the card that is there goes on naming what it does.
        """
        if self.request.tag:
            return self.request.tag
        known = pinned_revision(there or "")
        if plan.content_changes:
            return None if self.request.create_pr else known
        if known and is_same_at(self.api, self.request.repository, known, plan):
            return known
        return plan.remote.head

    def _make_room(self, plan: Plan, progress: Progress) -> None:
        """Makes the repository and the branch, where they are missing, for the commit to come."""
        repository, branch = self.request.repository, self.request.revision
        progress.start = plan.remote.head
        if not plan.remote.exists:
            self.api.create_repo(repository, private=self.request.private)
            progress.made_repository = True
            progress.start = self.api.repo_info(repository).sha
        if plan.remote.lacks_branch:
            self.api.create_branch(repository, branch=str(branch), revision=progress.start)
            progress.made_branch = True
        progress.started = bool(plan.changes)

    def _card_there(self, remote: Remote) -> str | None:
        if "README.md" not in remote.files:
            return None
        return self._there(remote, "README.md").read_text(encoding="utf-8")

    def _there(self, remote: Remote, name: str) -> Path:
        """A file of the repository, downloaded."""
        return Path(self.api.hf_hub_download(self.request.repository, name, revision=remote.head))

    def _existing_card(self, there: str | None) -> str | None:
        """The card of the folder and that of the repository as one: what a person wrote in either stays."""
        readme = self.folder / "README.md"
        here = readme.read_text(encoding="utf-8") if readme.is_file() else None
        if here is None or there is None:
            return here or there
        return merged(here, there, self.request.repository)

    def _card(self, existing: str | None, revision: str | None) -> str:
        picture = picture_caption(self.request.picture or self.folder / PICTURE)
        return card(
            self.config, self.request.repository, existing=existing, revision=revision, picture=picture,
            results=self.results,
        )  # fmt: skip

    def _commit(self, plan: Plan, files: dict[str, Content], parent: str | None) -> tuple[CommitInfo, Plan]:
        """Commits the changes of a plan; with it comes the plan that was followed, without copies where they failed."""
        repository = self.request.repository
        about = "a checkpoint that prunes itself" if plan.content_changes else "the model card"
        arguments: dict[str, Any] = {
            "commit_message": self.request.message or f"{self.folder.name}: {about}",
            "revision": self.request.revision,
            "create_pr": self.request.create_pr,
            "parent_commit": parent,
        }
        try:
            return self.api.create_commit(repository, _operations(plan, files), **arguments), plan
        except COPY_FAILURES as error:
            if not plan.bytes_to("copy") or not failed_to_copy(error, repository):
                raise
            self.say(f"the Hub could not copy the weights of the base ({said(error)}): they are uploaded")
        plan = without_copies(plan)
        return self.api.create_commit(repository, _operations(plan, files), **arguments), plan

    def _pin(self, commit: str) -> str:
        """A second commit, in which the card's snippets name the first: a card cannot know its own commit."""
        text = self._card((self.folder / "README.md").read_text(encoding="utf-8"), commit).encode()
        pinned = self.api.create_commit(
            self.request.repository, [CommitOperationAdd("README.md", text)],
            commit_message=f"Pin {commit[:8]} in the model card", revision=self.request.revision, parent_commit=commit,
        )  # fmt: skip
        (self.folder / "README.md").write_bytes(text)
        return pinned.oid

    def _keep(self, files: dict[str, Content]) -> None:
        """Writes the card and its picture into the folder, as they are on the Hub now."""
        for name in CARD:
            content = files.get(name)
            if content is not None and content != self.folder / name:
                data = content if isinstance(content, bytes) else content.read_bytes()
                (self.folder / name).write_bytes(data)

    def _is_tagged(self, remote: Remote) -> bool:
        """Whether the tag is there already, for the very commit that the branch is at."""
        if not self.request.tag or not remote.exists:
            return False
        tags = {tag.name: tag.target_commit for tag in self.api.list_repo_refs(self.request.repository).tags}
        if self.request.tag not in tags:
            return False
        if tags[self.request.tag] != remote.head:
            raise self._tag_is_taken()
        return True

    def _tag_is_taken(self) -> ValueError:
        tag = self.request.tag
        return ValueError(
            f"{self.request.repository} has the tag {tag} already, and a tag never moves: choose another --tag"
        )

    def _url(self) -> str:
        branch = f"/tree/{self.request.revision}" if self.request.revision else ""
        return f"{self.api.endpoint}/{self.request.repository}{branch}"


def _operations(plan: Plan, files: dict[str, Content]) -> list[Any]:
    """What `create_commit` is to do for the changes of a plan."""
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
            operations.append(CommitOperationAdd(step.name, content if isinstance(content, bytes) else str(content)))
    return operations


def _read_results(path: Path) -> dict[str, Any]:
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"--results {path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ValueError(f"--results {path} is not a results.json of hf-zspa eval: {error}") from error
    if not isinstance(results, dict) or not isinstance(results.get("rows"), list):
        raise ValueError(f"--results {path} is not a results.json of hf-zspa eval: it has no list of rows")
    return results
