"""Publishing a checkpoint on the Hub.

All that a push sends becomes visible in one commit. Until then the repository is as it was; what has been uploaded is
known to the Hub, so that the same push goes on where it was interrupted. A tag comes after that, and is made by the
same push where it is missing.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import CommitInfo, HfApi, get_token
from huggingface_hub.constants import ENDPOINT
from huggingface_hub.errors import HfHubHTTPError

from ..checkpoints.card import PICTURE
from ..checkpoints.resolve import FAILURES
from ..output import replace_file
from .copies import Say, failed_to_copy, without_copies
from .errors import AGAIN, hub_errors, said
from .plan import Content, Plan, Remote, operations
from .planning import CARD, Planning
from .request import Request, check_request


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
    planning = Planning(request, HfApi(), say)
    if not dry_run:
        return _Push(planning).run()
    with hub_errors(repo_id, revision):
        return Pushed(planning.as_far_as_it_can_be_seen(), request.url(), None)


class _Push:
    """One push: what it was asked for, and how far it has come."""

    def __init__(self, planning: Planning):
        self.planning, self.request, self.api, self.say = planning, planning.request, planning.api, planning.say
        self.made = ""  # on the way to the commit
        self.start: str | None = None  # the commit before it
        self.started = False  # the commit may have been sent
        self.commit: str | None = None

    def run(self) -> Pushed:
        request = self.request
        if get_token() is None:
            raise ValueError("there is no token to write to the Hub with: run hf auth login, or set HF_TOKEN")
        with hub_errors(request.repository, request.revision, self._left):
            self.api.whoami()
            plan, files = self.planning.plan()
            self._make_room(plan.remote)
            url, head = request.url(), self.start
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

    def _commit(self, plan: Plan, files: dict[str, Content]) -> tuple[CommitInfo, Plan]:
        """Commits the changes of a plan; with it comes the plan that was followed, without copies where they failed."""
        request = self.request
        arguments: dict[str, Any] = {
            "commit_message": self.planning.title, "revision": request.revision, "create_pr": request.create_pr,
            "parent_commit": self.start,
        }  # fmt: skip
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
        for name in {CARD, PICTURE} & files.keys():
            path, content = self.planning.folder / name, files[name]
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
                where = f"{ENDPOINT}/{repository}/discussions"
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
