"""What is the owner's in a card, and what hf-zspa wrote: between the two markers, and nowhere else.

Between them stands also a digest of what was the owner's when the card was written, by which a later push knows whether
anybody has changed it since.
"""

import hashlib
import json
import re

from .front_matter import metadata_of, plain, split

BEGIN = "<!-- hf-zspa: what follows is written by hf-zspa, up to the closing marker; write your own text outside -->"
END = "<!-- hf-zspa: end -->"
_MARK = "<!-- hf-zspa: outside the markers, as it was: {} -->"
_FIRST_MARK = "<!-- hf-zspa: own text {} -->"  # of a digest that saw neither white space nor comments of the metadata


def read_card(data: bytes, where: str) -> str:
    """The card in the bytes of a README.md.

    Args:
        where: names the file in an error.

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
        metadata_of(card)
        check_markers(card)
    except ValueError as error:
        raise ValueError(str(error).replace("README.md", where, 1)) from error
    return card


def check_markers(card: str) -> None:
    if (BEGIN in card) != (END in card) or card.find(BEGIN) > card.find(END):
        raise ValueError("README.md has only one of the two hf-zspa markers: put the other one back, or remove both")


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
    found = re.search("|".join(mark.format("[0-9a-f]{16}") for mark in (_MARK, _FIRST_MARK)), card)
    return found.group() if found else None


def fits(card: str, mark: str | None) -> bool:
    """Whether what is the owner's in a card is still as a mark says."""
    if mark is None:
        return False
    if is_exact(mark):
        return mark == _MARK.format(_digest(card))
    try:
        return mark == _FIRST_MARK.format(_first_digest(card))
    except ValueError:  # its metadata cannot be read, and hf-zspa writes none such
        return False


def is_exact(mark: str) -> bool:
    """Whether no change at all escapes a mark."""
    return not re.fullmatch(_FIRST_MARK.format(".*"), mark)


def pinned_revision(card: str) -> str | None:
    """The revision that the snippets of a card pin, if any."""
    found = re.search(r'^revision = "([^"]+)"', card, re.MULTILINE)
    return found.group(1) if found and found.group(1) != "main" else None


def _digest(card: str) -> str:
    return hashlib.sha256(own_text(card).encode()).hexdigest()[:16]


def _first_digest(card: str) -> str:
    """As the first cards have it, of the values of the metadata and the lines of the text."""
    before, _, rest = split(card)[1].partition(BEGIN)
    lines = [line.strip() for line in (before + rest.partition(END)[2]).splitlines() if line.strip()]
    own = json.dumps([metadata_of(card), lines], sort_keys=True, default=str)
    return hashlib.sha256(own.encode()).hexdigest()[:16]
