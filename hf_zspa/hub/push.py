"""Pushing a checkpoint.

All that a push sends becomes visible in one commit. Until then the repository is as it was; what has been uploaded is
known to the Hub, so that the same push goes on where it was interrupted. A tag, or a second commit in which the card
names the first, comes after that. Each is found out about by itself and done where it is missing, so that a push which
broke off between them is mended by the same push.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from huggingface_hub import CommitInfo, CommitOperationAdd, HfApi, get_token
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

from ..checkpoints.card import PICTURE, card, merged, metadata_of, picture_caption, pinned_revision, read_card
from ..checkpoints.files import replace_file
from .copies import COPY_FAILURES, Say, base_names, failed_to_copy, with_copies, without_copies
from .errors import hub_errors, said
from .leftovers import check_weights
from .older_cards import older_cards
from .plan import CARD, Content, Plan, Remote, files_at, is_same_at, look_up, make_plan, operations, plan_without_hub
from .progress import Progress
from .publishable import check_publishable, checkpoint_files
from .request import Request, check_fits, check_request, read_results


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
        check_request(request)
        self.request, self.say = request, say
        self.folder = request.checkpoint.expanduser().resolve()
        self.config = check_publishable(self.folder)
        check_weights(self.folder)
        self._card_here()
        self.results = None if request.results is None else read_results(request.results)
        self.api = HfApi()

    def plan(self) -> Plan:
        """What `run` would do; nothing is changed, here or on the Hub. With HF_HUB_OFFLINE, what it would compare.

        Raises:
            ValueError: the Hub cannot be asked, the request does not fit the repository, the tag names another commit,
                the card names a base that is no Hub id, or the card here and there contradict each other.
        """
        with hub_errors(self.request.repository, self.request.revision):
            try:
                return self._plan()[0]
            except OfflineModeIsEnabled:
                return plan_without_hub(checkpoint_files(self.folder) | self._content())

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
        with hub_errors(request.repository, request.revision, progress.failed):
            self.api.whoami()
            plan, files = self._plan()
            if plan.is_done:
                self._keep(files)
                return Pushed(plan, plan.opened or self._url(), None)
            self._make_room(plan, progress)
            head, url = progress.start, self._url()
            if plan.changes:
                commit, plan = self._commit(plan, files, progress.start)
                head, url = commit.oid, commit.pr_url or url
            progress.missing = f"the tag {plan.tag}" if plan.tag else "the revision in its model card" * plan.pins
            progress.commit = head
            self._keep(files)
            if plan.tag:
                self._tag(str(head), files)
            elif plan.content_changes and request.to_pull_request:
                option = "--create-pr" if request.create_pr else f"--revision {request.revision}"
                self.say(f"when it is merged, run the same without {option}: the card then names the merged commit")
            elif plan.pins and head:
                head = self._pin(head, files)
            return Pushed(plan, url, head)

    def _plan(self) -> tuple[Plan, dict[str, Content]]:
        """What is to be done, and what is pushed, by name: first the content, then the card, which names a revision
        that has it."""
        request = self.request
        remote = look_up(self.api, request.repository, request.revision)
        check_fits(request, remote)
        tagged = self._is_tagged(remote)
        there = self._card_there(remote)
        existing = self._existing_card(there, remote.head)
        head = metadata_of(existing or "")
        if lacking := [name for name in ("license", "base_model") if not head.get(name)]:
            self.say(f"the card has no {' and no '.join(lacking)}: add it to the metadata of {self.folder}/README.md")
        bases = base_names(head.get("base_model"))
        files = self._content()
        content = self._compared(files, remote)
        for problem in content.reported:
            self.say(f"it stays in the repository, which hf-zspa verify will not pass: {problem}")
        files["README.md"] = self._card(existing, self._pin_until_then(content, there)).encode()
        plan = content.with_file("README.md", files["README.md"])
        if tagged and plan.changes:
            raise self._tag_is_taken()
        if request.create_pr and plan.changes and (opened := self._opened(files)):
            return replace(plan, opened=opened), files
        plan = with_copies(self.api, plan, files, request.repository, bases, self.say)
        pins = bool(plan.content_changes) and not request.tag and not request.to_pull_request
        return replace(plan, tag=None if tagged else request.tag, pins=pins), files

    def _content(self) -> dict[str, Content]:
        """What is pushed beside the card, by name."""
        files: dict[str, Content] = {**checkpoint_files(self.folder)}
        files.pop("README.md", None)
        return files | ({PICTURE: self.request.picture} if self.request.picture is not None else {})

    def _pin_until_then(self, content: Plan, there: str | None) -> str | None:
        """What the card's snippets name in the commit to come: a tag or a commit that has the checkpoint's content.

        Where content changes, that is a commit yet to be made, and the card that is there goes on naming what it does.
        """
        request = self.request
        if request.tag:
            return request.tag
        known = pinned_revision(there or "")
        if content.content_changes:
            return None if request.to_pull_request else known
        if known and is_same_at(self.api, request.repository, known, content):
            return known
        # The commit of a pull request is none that a merge leaves.
        return content.remote.head if request.create_pr or not request.to_pull_request else None

    def _opened(self, files: dict[str, Content]) -> str | None:
        """The address of an open pull request that has all of it; others of an earlier push are named."""
        repository = self.request.repository
        kind: dict[str, Any] = {"discussion_type": "pull_request", "discussion_status": "open"}
        for found in self.api.get_repo_discussions(repository, **kind):
            there = f"refs/pr/{found.num}"
            if not self._compared(files, Remote(True, there, files_at(self.api, repository, there))).changes:
                return found.url
            if found.title == self._title():
                self.say(f"{found.url} is open already: to add to it, give --revision refs/pr/{found.num} instead")
        return None

    def _make_room(self, plan: Plan, progress: Progress) -> None:
        """Makes the repository and the branch, where they are missing, for the commit to come."""
        repository, branch = self.request.repository, self.request.revision
        progress.start = plan.remote.head
        if not plan.remote.exists:
            progress.made_repository = None
            self.api.create_repo(repository, private=self.request.private)
            progress.made_repository = True
            progress.start = self.api.repo_info(repository).sha
        if plan.remote.lacks_branch:
            progress.made_branch = None
            self.api.create_branch(repository, branch=str(branch), revision=progress.start)
            progress.made_branch = True
        progress.started = bool(plan.changes)

    def _card_here(self) -> str | None:
        readme = self.folder / "README.md"
        try:
            return read_card(readme.read_bytes(), str(readme)) if readme.is_file() else None
        except OSError as error:
            raise ValueError(f"{readme} cannot be read: {error.strerror}") from error

    def _card_there(self, remote: Remote) -> str | None:
        if "README.md" not in remote.files:
            return None
        return read_card(self._there(remote, "README.md").read_bytes(), f"README.md in {self.request.repository}")

    def _there(self, remote: Remote, name: str) -> Path:
        """A file of the repository, downloaded."""
        return Path(self.api.hf_hub_download(self.request.repository, name, revision=remote.head))

    def _compared(self, files: dict[str, Content], remote: Remote) -> Plan:
        return make_plan(files, remote, lambda name: self._there(remote, name).read_bytes())

    def _existing_card(self, there: str | None, head: str | None) -> str | None:
        """The card of the folder and that of the repository as one: what a person wrote in either stays."""
        here, repository = self._card_here(), self.request.repository
        if here is None or there is None:
            return here or there
        return merged(here, there, repository, older_cards(self.api, repository, here, head))

    def _card(self, existing: str | None, revision: str | None) -> str:
        picture = picture_caption(self.request.picture or self.folder / PICTURE)
        return card(
            self.config, self.request.repository, existing=existing, revision=revision, picture=picture,
            results=self.results,
        )  # fmt: skip

    def _commit(self, plan: Plan, files: dict[str, Content], parent: str | None) -> tuple[CommitInfo, Plan]:
        """Commits the changes of a plan; with it comes the plan that was followed, without copies where they failed."""
        repository = self.request.repository
        arguments: dict[str, Any] = {
            "commit_message": self._title(plan.content_changes),
            "revision": self.request.revision,
            "create_pr": self.request.create_pr,
            "parent_commit": parent,
        }
        try:
            return self.api.create_commit(repository, operations(plan, files), **arguments), plan
        except COPY_FAILURES as error:
            if not plan.bytes_to("copy") or not failed_to_copy(error, repository):
                raise
            self.say(f"the Hub could not copy the weights of the base ({said(error)}): they are uploaded")
        plan = without_copies(plan)
        return self.api.create_commit(repository, operations(plan, files), **arguments), plan

    def _title(self, content_changes: object = True) -> str:
        """The first line of a commit, which is the title of its pull request, too."""
        about = "a checkpoint that prunes itself" if content_changes else "the model card"
        return self.request.message or f"{self.folder.name}: {about}"

    def _tag(self, commit: str, files: dict[str, Content]) -> None:
        """Tags the commit; where somebody took the tag meanwhile, the card, which names it, is pinned to the commit."""
        tag, repository = str(self.request.tag), self.request.repository
        try:
            self.api.create_tag(repository, tag=tag, revision=commit)
        except HfHubHTTPError as error:
            if error.response is None or error.response.status_code != 409:
                raise
            self._pin(commit, files)
            raise ValueError(
                f"commit {commit[:8]} is published, but somebody has made the tag {tag} of {repository} meanwhile, and "
                "a tag never moves: the card names the commit instead. Choose another --tag and push again"
            ) from error

    def _pin(self, commit: str, files: dict[str, Content]) -> str:
        """A second commit, in which the card's snippets name the first: a card cannot know its own commit."""
        text = self._card(bytes(files["README.md"]).decode(), commit).encode()
        pinned = self.api.create_commit(
            self.request.repository, [CommitOperationAdd("README.md", text)],
            commit_message=f"Pin {commit[:8]} in the model card", revision=self.request.revision, parent_commit=commit,
        )  # fmt: skip
        self._keep({"README.md": text})
        return pinned.oid

    def _keep(self, files: dict[str, Content]) -> None:
        """Writes the card and its picture into the folder, as they are on the Hub now; not those of a pull request,
        whose card is on its way only."""
        for name in () if self.request.to_pull_request else CARD:
            path, content = self.folder / name, files.get(name)
            if content is None or content == path:
                continue
            data = content if isinstance(content, bytes) else content.read_bytes()
            if path.is_file() and path.read_bytes() == data:
                continue
            try:
                replace_file(path, data)
            except OSError as error:
                self.say(f"{path} cannot be written ({error.strerror}) and stays as it was: the Hub has the newer one")

    def _is_tagged(self, remote: Remote) -> bool:
        """Whether the tag is there already, for the very commit that the branch is at."""
        commit = remote.tags.get(self.request.tag or "")
        if commit not in (None, remote.head):
            raise self._tag_is_taken()
        return commit is not None

    def _tag_is_taken(self) -> ValueError:
        tag = self.request.tag
        return ValueError(
            f"{self.request.repository} has the tag {tag} already, and a tag never moves: choose another --tag"
        )

    def _url(self) -> str:
        where = self.request.revision or ""
        if self.request.to_pull_request and where.startswith("refs/"):
            return f"{self.api.endpoint}/{self.request.repository}/discussions/{where.rpartition('/')[2]}"
        return f"{self.api.endpoint}/{self.request.repository}" + (f"/tree/{where}" if where else "")
