"""The cards that a repository had before, of which one is what a card here and one there were both made of."""

from collections.abc import Iterator
from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError, RevisionNotFoundError

from ..checkpoints.card import pinned_revision

CARD = "README.md"
COMMITS = 30  # of which the card is looked at


def older_cards(api: HfApi, repository: str, here: str, head: str | None) -> Iterator[str]:
    """That of the commit or tag which the card here names, then those of the commits up to `head`, newest first.

    Each is fetched when it is asked for. A card that is not UTF-8 is left out: hf-zspa did not write it.
    """
    for revision in _revisions(api, repository, here, head):
        try:
            file = api.hf_hub_download(repository, CARD, revision=revision)
            yield Path(file).read_text(encoding="utf-8")
        except LocalEntryNotFoundError:  # the Hub could not be asked
            raise
        except (EntryNotFoundError, RevisionNotFoundError, UnicodeDecodeError):
            continue


def _revisions(api: HfApi, repository: str, here: str, head: str | None) -> Iterator[str]:
    named = pinned_revision(here)
    if named:
        yield named
    yield from (commit.commit_id for commit in api.list_repo_commits(repository, revision=head)[:COMMITS])
