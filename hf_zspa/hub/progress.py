"""How far a push has come, so that one that fails can say what it has left on the Hub."""

from dataclasses import dataclass

from huggingface_hub import HfApi

from .errors import AGAIN, FAILURES


@dataclass
class Progress:
    """What a push has done up to now.

    Attributes:
        branch: None for the default one.
        pull_request: whether the commit opens one.
        made_repository, made_branch: whether this push made it.
        started: whether the commit of the files may have been sent.
        start: the commit before it.
        commit: the one that holds the files, once it is there.
        missing: what is yet to be done then, such as "the tag v1".
    """

    api: HfApi
    repository: str
    branch: str | None
    pull_request: bool
    made_repository: bool = False
    made_branch: bool = False
    started: bool = False
    start: str | None = None
    commit: str | None = None
    missing: str = ""

    def left(self, refused: bool) -> str:
        """What a push that failed now has left, and what to do; a branch that was made for nothing is removed.

        Args:
            refused: the Hub answered that it did not do what was asked last; else that is not known.
        """
        if self.commit:
            return f"Commit {self.commit[:8]} is published, but {self.missing} may be missing. {AGAIN}"
        again = "" if refused else f". {AGAIN}"
        if not self.started:
            return f"Nothing was published{self._made(None)}{again}" if self.made_repository else ""
        head = self._head()
        nothing = refused or (head == self.start and not self.pull_request)
        if nothing and self.made_branch and head == self.start:
            self._remove_branch()
        if nothing:
            return f"Nothing was published{self._made(head)}{again}"
        if self.pull_request:
            where = f"{self.api.endpoint}/{self.repository}/discussions"
            return f"The pull request may have been opened all the same: look for it at {where} before you push again"
        if head:
            return f"{self.repository} has a new commit, {head[:8]}, which may be this one. {AGAIN}"
        return f"It is not known whether the commit arrived. {AGAIN}"

    def _made(self, head: str | None) -> str:
        same = " and is as the one it comes from" if head == self.start else ""
        made = [f"the branch {self.branch} was made{same}"] * self.made_branch
        made += ["the repository was made, and is empty"] * self.made_repository
        return "".join(f", but {what}" for what in made[:1]) + "".join(f", and {what}" for what in made[1:])

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
