"""How far a push has come, so that one that fails can say what it has left on the Hub."""

from dataclasses import dataclass

from huggingface_hub import HfApi

from ..checkpoints.resolve import FAILURES
from .errors import AGAIN


@dataclass
class Progress:
    """What a push has done up to now.

    Attributes:
        branch: None for the default one.
        pull_request: whether the commit opens one.
        made_repository, made_branch: whether this push made it; None from when the Hub is asked to until it answers.
        started: whether the commit of the files may have been sent.
        start: the commit before it.
        commit: the one that holds the files, once it is there.
        missing: what is yet to be done then, such as "the tag v1".
        refused: the Hub answered that it did not do what was asked last; else that is not known.
        head: the commit that the branch was at after the failure; None where that is not known.
    """

    api: HfApi
    repository: str
    branch: str | None
    pull_request: bool
    made_repository: bool | None = False
    made_branch: bool | None = False
    started: bool = False
    start: str | None = None
    commit: str | None = None
    missing: str = ""
    refused: bool = False
    head: str | None = None

    def failed(self, refused: bool) -> str:
        """Tidies up after a failure, and says what there is and what to do; `refused` is the attribute."""
        self.refused = refused
        if self.started and not self.commit:
            self.head = self._head()
            if self.made_branch and self._is_unchanged and self.head == self.start:
                self._remove_branch()
        return self.left()

    def left(self) -> str:
        """What the failed push has left, and what to do; nothing where it had not begun."""
        again = "" if self.refused else f". {AGAIN}"
        if self.commit:
            missing = f", but {self.missing} may be missing" if self.missing else ""
            return f"Commit {self.commit[:8]} is published{missing}. {AGAIN}"
        if not self.started or self._is_unchanged:
            made = self._made()
            return f"Nothing was published{made}{again}" if made or self.started else ""
        if self.pull_request:
            where = f"{self.api.endpoint}/{self.repository}/discussions"
            return f"The pull request may have been opened all the same: look for it at {where} before you push again"
        if self.head:
            return f"{self.repository} has a new commit, {self.head[:8]}, which may be this one. {AGAIN}"
        return f"It is not known whether the commit arrived. {AGAIN}"

    @property
    def _is_unchanged(self) -> bool:
        """Whether the commit of the files certainly did not arrive."""
        return self.refused or (self.head == self.start and not self.pull_request)

    def _made(self) -> str:
        made = []
        if self._may_be(self.made_branch):
            same = " and is as the one it comes from" if self.made_branch and self.head == self.start else ""
            made.append(f"the branch {self.branch} {'was' if self.made_branch else 'may have been'} made{same}")
        if self._may_be(self.made_repository):
            made.append(f"the repository {'was' if self.made_repository else 'may have been'} made, and is empty")
        return f", but {', and '.join(made)}" if made else ""

    def _may_be(self, made: bool | None) -> bool:
        return bool(made) or (made is None and not self.refused)

    def _head(self) -> str | None:
        try:
            return self.api.repo_info(self.repository, revision=self.branch).sha
        except FAILURES:
            return None

    def _remove_branch(self) -> None:
        try:
            self.api.delete_branch(self.repository, branch=str(self.branch))
        except FAILURES:
            return
        self.made_branch = False
