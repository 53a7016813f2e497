"""From a folder and the repository as it is to what a push does; nothing is changed by finding out."""

from dataclasses import replace
from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.errors import OfflineModeIsEnabled

from ..checkpoints.card import PICTURE, chosen, metadata_of, pinned_tag, read_card, tuned_line, write_card
from ..checkpoints.card.metadata import strings
from ..checkpoints.resolve import FAILURES
from .copies import Say, check_bases, with_copies
from .plan import Content, Plan, Remote, Step, compared, files_at, look_up, size_of
from .publishable import check_publishable, checkpoint_files
from .replaced import sorted_out
from .request import Request, check_fits
from .results import eval_results, read_results

CARD = "README.md"


class Planning:
    """What is here to be pushed, and what has to be done for it.

    Args:
        say: is told, in a line each, what a person should know meanwhile.

    Raises:
        ValueError: what is here cannot be published; the Hub is not asked.
    """

    def __init__(self, request: Request, api: HfApi, say: Say):
        self.request, self.api, self.say = request, api, say
        self.folder = request.checkpoint.expanduser().resolve()
        self.config = check_publishable(self.folder)
        self.card = self._card_here()
        self.results = eval_results(read_results(request.results), self.config) if request.results else None
        self.title = request.message or f"{self.folder.name}: a checkpoint that prunes itself"

    def plan(self) -> tuple[Plan, dict[str, Content]]:
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

    def as_far_as_it_can_be_seen(self) -> Plan:
        """What is to be done; without a connection, of which nothing is compared."""
        try:
            return self.plan()[0]
        except OfflineModeIsEnabled:
            return self._not_compared("HF_HUB_OFFLINE is set")
        except FAILURES as error:
            if getattr(error, "response", None) is not None:
                raise
            return self._not_compared("the Hub is out of reach")

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
            tuned=tuned_line(self.card or ""),
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
        bases = list(strings(data.base_model))
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

    def _check_no_second_pull_request(self) -> None:
        repository = self.request.repository
        opened = self.api.get_repo_discussions(repository, discussion_type="pull_request", discussion_status="open")
        for found in opened:
            if found.title == self.title:
                raise ValueError(
                    f"the pull request {found.num} of {repository} is open and has the same title: add to it with "
                    f"--revision refs/pr/{found.num} in the place of --create-pr, or give another --message"
                )
