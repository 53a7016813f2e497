"""What is the owner's in a card, and what hf-zspa wrote: between the two markers, and nowhere else.

Between them stands also a digest of what was the owner's when the card was written, by which a later push knows whether
anybody has changed it since.
"""

import hashlib
import re

from .front_matter import entries, metadata_of, plain, split
from .results import index_of

BEGIN = "<!-- hf-zspa: what follows is written by hf-zspa, up to the closing marker; write your own text outside -->"
END = "<!-- hf-zspa: end -->"
_MARK = "<!-- hf-zspa: outside the markers, as it was: {} -->"


def read_card(data: bytes, where: str, to_change: bool = True) -> str:
    """The card in the bytes of a README.md.

    Args:
        where: names the file in an error.
        to_change: it is to be written anew or merged, for which more of its metadata must be in order.

    Raises:
        ValueError: it is not UTF-8, has no readable metadata, or has only one of the two markers.
    """
    try:
        card = plain(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{where} is not UTF-8: byte {error.start} is {data[error.start]:#04x}; save it as UTF-8"
        ) from error
    try:
        metadata = metadata_of(card)
        if to_change:
            entries(split(card)[0])
            index_of(metadata)
        check_markers(card)
    except ValueError as error:
        raise ValueError(str(error).replace("README.md", where, 1)) from error
    return card


def check_markers(card: str) -> None:
    if (BEGIN in card) != (END in card) or card.find(BEGIN) > card.find(END):
        raise ValueError(
            "README.md has only one of the two hf-zspa markers: put the other one back; or remove both, after which "
            "hf-zspa writes no text into it, and later edits are to be sent with hf upload"
        )


def own_text(card: str) -> str:
    """A card with nothing between its markers."""
    before, begin, rest = plain(card).partition(BEGIN)
    return before + begin + "".join(rest.partition(END)[1:])


def with_written(card: str, written: str) -> str:
    """A card with this between its markers, and the mark of all else; the card itself where it has no markers."""
    before, begin, rest = own_text(card).partition(BEGIN)
    return f"{before}{begin}\n{_MARK.format(_digest(card))}\n\n{written}\n\n{rest}" if begin else card


def mark_of(card: str) -> str | None:
    """The line that says what was the owner's when hf-zspa last wrote a card."""
    found = re.search(_MARK.format("[0-9a-f]{16}"), card)
    return found.group() if found else None


def fits(card: str, mark: str | None) -> bool:
    """Whether what is the owner's in a card is still as a mark says."""
    return mark == _MARK.format(_digest(card))


def is_wordless(card: str) -> bool:
    """Whether a card has markers, and no more than a title outside of them."""
    lines = [line for line in split(own_text(card))[1].splitlines() if line.strip()]
    return mark_of(card) is not None and sum(not line.startswith("<!-- hf-zspa:") for line in lines) <= 1


def is_new(card: str) -> bool:
    """Whether a card is as `hf-zspa convert` made it: no word of it is a person's, and it was never published."""
    return is_wordless(card) and fits(card, mark_of(card)) and pinned_revision(card) is None


def pinned_revision(card: str) -> str | None:
    """The revision that the snippets of a card pin, if any."""
    found = re.search(r'^revision = "([^"]+)"', card, re.MULTILINE)
    return found.group(1) if found and found.group(1) != "main" else None


def _digest(card: str) -> str:
    return hashlib.sha256(own_text(card).encode()).hexdigest()[:16]
