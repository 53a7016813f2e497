"""Publishing a checkpoint on the Hub.

All that a push sends becomes visible in one commit. Until then the repository is as it was; what has been uploaded is
known to the Hub, so that the same push goes on where it was interrupted. A tag comes after that, and is made by the
same push where it is missing.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from huggingface_hub import CommitInfo, HfApi, get_token
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

from ..checkpoints.card import PICTURE, chosen, metadata_of, pinned_tag, read_card, write_card
from ..checkpoints.resolve import FAILURES
from ..output import replace_file
from .copies import Say, check_bases, failed_to_copy, with_copies, without_copies
from .errors import AGAIN, hub_errors, said
from .plan import Content, Plan, Remote, Step, compared, files_at, look_up, operations, size_of
from .publishable import check_publishable, checkpoint_files
from .replaced import sorted_out
from .request import Request, check_fits, check_request
from .results import eval_results, read_results

CARD = "README.md"


@dataclass(frozen=True)
class Pushed:
    """What came of a push.

    Attributes:
        plan: what it did, or of a dry run what it would do, file by file.
        url: where to look on the Hub.
        commit: the commit that is there now; None where there was nothing to do, or it was a dry run.
    """

    plan: Plan
    url: str
    commit: str | None


def push_checkpoint(
    checkpoint: str | Path,
    repo_id: str,
    *,
    private: bool = False,
    revision: str | None = None,
    create_pr: bool = False,
    tag: str | None = None,
    message: str | None = None,
    results: str | Path | None = None,
    picture: str | Path | None = None,
    dry_run: bool = False,
    say: Say = lambda line: None,
) -> Pushed:
    """Publishes a converted checkpoint on the Hub, in one commit, with its model card brought up to date.

    Only what the repository lacks is sent; weights that the base's repository holds are copied on the Hub's side where
    the installed huggingface_hub can. The same call finishes one that broke off.

    Args:
        checkpoint: the folder of a checkpoint that passes `verify_checkpoint`.
        repo_id: the repository, as org/name; it is made where there is none.
        private: make it a private one; one that is there must be private, too.
        revision: the branch, made from the default one where there is none; or an open pull request, as "refs/pr/1".
        create_pr: open a pull request instead of writing to the branch.
        tag: a new name for the commit, which the snippets on the card then name.
        message: of the commit.
        results: a `results.json` of `hf-zspa eval`, for the card.
        picture: a PNG of `hf-zspa visualize`, for the card; without it, a kept-tokens.png in the folder is shown.
        dry_run: change nothing, and return what would be done. Without a connection nothing is compared.
        say: is told, in a line each, what a person should know meanwhile.

    Returns:
        What was done, or would be.

    Raises:
        ValueError: the folder is no checkpoint to publish, the arguments make no sense or do not fit the repository,
            the card here and that there were both edited, there is no token, or the Hub refused or was lost. The
            message says what was published up to there, and what to do.
        Interrupted: by Ctrl-C; the message says the same.
    """
    files = [None if path is None else Path(path) for path in (results, picture)]
    request = Request(Path(checkpoint), repo_id, private, revision, create_pr, tag, message, *files)
    check_request(request)
    push = _Push(request, say)
    return push.plan() if dry_run else push.run()


class _Push:
    """One push: what it was asked for, and how far it has come."""

    def __init__(self, request: Request, say: Say):
        self.request, self.say = request, say
        self.folder = request.checkpoint.expanduser().resolve()
        self.config = check_publishable(self.folder)
        self.card = self._card_here()
        self.results = eval_results(read_results(request.results), self.config) if request.results else None
        self.api = HfApi()
        self.made = ""  # on the way to the commit
        self.start: str | None = None  # the commit before it
        self.started = False  # the commit may have been sent
        self.commit: str | None = None

    def plan(self) -> Pushed:
        with hub_errors(self.request.repository, self.request.revision):
            try:
                plan, _ = self._plan()
            except OfflineModeIsEnabled:
                plan = self._not_compared("HF_HUB_OFFLINE is set")
            except FAILURES as error:
                if getattr(error, "response", None) is not None:
                    raise
                plan = self._not_compared("the Hub is out of reach")
            return Pushed(plan, self._url(), None)

    def run(self) -> Pushed:
        request = self.request
        if get_token() is None:
            raise ValueError("there is no token to write to the Hub with: run hf auth login, or set HF_TOKEN")
        with hub_errors(request.repository, request.revision, self._left):
            self.api.whoami()
            plan, files = self._plan()
            self._make_room(plan.remote)
            url, head = self._url(), self.start
            if plan.changes:
                self.started = True
                commit, plan = self._commit(plan, files)
                url, head = commit.pr_url or url, commit.oid
            self.commit = head
            if not request.to_pull_request:
                self._keep(files)
            if plan.tag:
                self._tag(plan.tag)
            return Pushed(plan, url, None if plan.is_done else head)

    def _plan(self) -> tuple[Plan, dict[str, Content]]:
        """What is to be done, and what is pushed, by name."""
        request, remote = self.request, look_up(self.api, self.request.repository, self.request.revision)
        check_fits(request, remote)
        files = self._content()
        steps = compared(files, remote.files)
        files[CARD] = self._card(remote, is_same=all(step.action == "unchanged" for step in steps))
        steps = sorted([*steps, *compared({CARD: files[CARD]}, remote.files)], key=lambda step: step.name)
        removed, left, reported = sorted_out(remote.files, files, lambda name: self._there(remote, name))
        for problem in reported:
            self.say(f"it stays in the repository, which hf-zspa verify will not pass: {problem}")
        plan = Plan(remote, [*steps, *(Step(name, remote.files[name].size, "remove") for name in removed)], left)
        tagged = remote.tags.get(request.tag or "")
        if tagged and (plan.changes or tagged != remote.head):
            raise ValueError(
                f"{request.repository} has the tag {request.tag} already, and a tag never moves: choose another --tag"
            )
        if request.create_pr and plan.changes:
            self._check_no_second_pull_request()
        bases = self._bases(bytes(files[CARD]).decode())
        plan = with_copies(self.api, plan, files, request.repository, bases, self.say)
        return replace(plan, tag=None if tagged else request.tag), files

    def _not_compared(self, why: str) -> Plan:
        """What would be compared with the Hub, if that could be asked."""
        files = checkpoint_files(self.folder) | self._content()
        steps = [Step(name, size_of(content), "not compared") for name, content in sorted(files.items())]
        return Plan(Remote(False, None), steps, [], not_compared=why)

    def _content(self) -> dict[str, Content]:
        """What is pushed beside the card, by name."""
        files: dict[str, Content] = {**checkpoint_files(self.folder)}
        files.pop(CARD, None)
        return files | ({PICTURE: self.request.picture} if self.request.picture else {})

    def _card(self, remote: Remote, is_same: bool) -> bytes:
        """The card to push; `is_same` where the repository has all else already."""
        request, there = self.request, None
        if CARD in remote.files:
            there = read_card(self._there(remote, CARD), f"README.md in {request.repository}")
        branch = "main" if request.to_pull_request else request.revision or "main"
        return write_card(
            self.config, request.repository, existing=chosen(self.card, there, request.repository),
            tag=request.tag or (self._tag_there(remote, there) if is_same and there else None), branch=branch,
            picture=PICTURE in self._content(), results=self.results,
        ).encode()  # fmt: skip

    def _tag_there(self, remote: Remote, card: str) -> str | None:
        """The tag that the card of the repository names, if that has what the branch has."""
        tag = pinned_tag(card)
        if tag not in remote.tags:
            return None
        tagged = files_at(self.api, self.request.repository, remote.tags[str(tag)])
        names = self._content()
        same = all(name in tagged and tagged[name].blob_id == remote.files[name].blob_id for name in names)
        return tag if same else None

    def _bases(self, card: str) -> list[str]:
        data = metadata_of(card)
        if lacking := [name for name in ("license", "base_model") if not data.get(name)]:
            self.say(f"the card has no {' and no '.join(lacking)}: add it to the metadata of {self.folder}/README.md")
        bases = data.base_model if isinstance(data.base_model, list) else [data.base_model] if data.base_model else []
        check_bases(bases)
        return bases

    def _card_here(self) -> str | None:
        readme = self.folder / CARD
        try:
            return read_card(readme.read_bytes(), str(readme)) if readme.is_file() else None
        except OSError as error:
            raise ValueError(f"{readme} cannot be read: {error.strerror}") from error

    def _there(self, remote: Remote, name: str) -> bytes:
        """A file of the repository, downloaded."""
        return Path(self.api.hf_hub_download(self.request.repository, name, revision=remote.head)).read_bytes()

    def _make_room(self, remote: Remote) -> None:
        """Makes the repository and the branch, where they are missing, for the commit to come."""
        repository, branch = self.request.repository, self.request.revision
        self.start = remote.head
        if not remote.exists:
            self.api.create_repo(repository, private=self.request.private)
            self.made = "the repository"
            self.start = self.api.repo_info(repository).sha
        if remote.lacks_branch:
            self.api.create_branch(repository, branch=str(branch), revision=self.start)
            self.made += f"{' and ' * bool(self.made)}the branch {branch}"

    def _title(self) -> str:
        return self.request.message or f"{self.folder.name}: a checkpoint that prunes itself"

    def _check_no_second_pull_request(self) -> None:
        repository = self.request.repository
        opened = self.api.get_repo_discussions(repository, discussion_type="pull_request", discussion_status="open")
        for found in opened:
            if found.title == self._title():
                raise ValueError(
                    f"the pull request {found.num} of {repository} is open and has the same title: add to it with "
                    f"--revision refs/pr/{found.num} in the place of --create-pr, or give another --message"
                )

    def _commit(self, plan: Plan, files: dict[str, Content]) -> tuple[CommitInfo, Plan]:
        """Commits the changes of a plan; with it comes the plan that was followed, without copies where they failed."""
        request = self.request
        arguments: dict[str, Any] = {
            "commit_message": self._title(),
            "revision": request.revision,
            "create_pr": request.create_pr,
            "parent_commit": self.start,
        }
        try:
            return self.api.create_commit(request.repository, operations(plan, files), **arguments), plan
        except Exception as error:
            if not plan.bytes_to("copy") or not failed_to_copy(error, request.repository):
                raise
            self.say(f"the Hub could not copy the weights of the base ({said(error)}): they are uploaded")
        plan = without_copies(plan)
        return self.api.create_commit(request.repository, operations(plan, files), **arguments), plan

    def _keep(self, files: dict[str, Content]) -> None:
        """Writes the card and its picture into the folder, as they are on the Hub now."""
        for name in (CARD, PICTURE):
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

    def _tag(self, tag: str) -> None:
        try:
            self.api.create_tag(self.request.repository, tag=tag, revision=self.commit)
        except HfHubHTTPError as error:
            if error.response is None or error.response.status_code != 409:
                raise
            raise ValueError(
                f"commit {str(self.commit)[:8]} is published, but somebody has made the tag {tag} of "
                f"{self.request.repository} meanwhile, and a tag never moves: choose another --tag and push again"
            ) from error

    def _left(self, refused: bool) -> str:
        """What a push that failed has left on the Hub, and what to do; nothing where it had not begun."""
        repository, branch = self.request.repository, self.request.revision
        if self.commit:
            missing = f", but the tag {self.request.tag} may be missing" if self.request.tag else ""
            return f"Commit {self.commit[:8]} is published{missing}. {AGAIN}"
        if self.started and not refused:
            if self.request.create_pr:
                where = f"{self.api.endpoint}/{repository}/discussions"
                return f"The pull request may have been opened all the same: look at {where} before you push again"
            try:
                head = self.api.repo_info(repository, revision=branch).sha
            except FAILURES:
                return f"It is not known whether the commit arrived. {AGAIN}"
            if head != self.start:
                return f"{repository} has a new commit, {str(head)[:8]}, which may be this one. {AGAIN}"
        if not self.started and not self.made:
            return ""
        made = f", but {self.made} was made" if self.made else ""
        return f"Nothing was published{made}" + ("" if refused else f". {AGAIN}")

    def _url(self) -> str:
        where = self.request.revision or ""
        if self.request.to_pull_request and where.startswith("refs/"):
            return f"{self.api.endpoint}/{self.request.repository}/discussions/{where.rpartition('/')[2]}"
        return f"{self.api.endpoint}/{self.request.repository}" + (f"/tree/{where}" if where else "")
