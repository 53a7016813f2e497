"""What is the owner's in a card, and what hf-zspa wrote: between the two markers, and nowhere else.

Between them stands also a digest of what was the owner's when the card was written. With it a push knows which of two
cards, that of the folder and that of the repository, was edited since.
"""

import hashlib
import re

from .metadata import body_of, entries_of, metadata_of, with_entries

BEGIN = "<!-- hf-zspa: what follows is written by hf-zspa, up to the closing marker; write your own text outside -->"
END = "<!-- hf-zspa: end -->"
WRITTEN = ("library_name", "pipeline_tag", "base_model_relation", "tags", "model-index")  # entries that hf-zspa adds to
TUNED = "Tuned with `hf-zspa tune`"  # begins the line that says so
_MARK = "<!-- hf-zspa: outside the markers, as it was: {} -->"


def read_card(data: bytes, where: str) -> str:
    """The card in the bytes of a README.md.

    Args:
        where: names the file in an error.

    Raises:
        ValueError: it is not UTF-8, has no readable metadata, or has only one of the two markers.
    """
    card = decoded(data, where)
    try:
        metadata_of(card)
        _check_markers(card)
    except ValueError as error:
        raise ValueError(str(error).replace("README.md", where, 1)) from error
    return card


def decoded(data: bytes, where: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{where} is not UTF-8: byte {error.start} is {data[error.start]:#04x}; save it as UTF-8"
        ) from error


def with_written(card: str, written: str) -> str:
    """A card with this between its markers, and the mark of all else; the card itself where it has no markers."""
    _check_markers(card)
    before, begin, rest = card.partition(BEGIN)
    if not begin:
        return card
    newline = "\r\n" if "\r\n" in card else "\n"
    ours = f"\n{_MARK.format(_digest(card))}\n\n{written}\n\n".replace("\n", newline)
    return f"{before}{BEGIN}{ours}{END}{rest.partition(END)[2]}"


def chosen(here: str | None, there: str | None, repository: str) -> str | None:
    """Which card a push goes on with; None where there is none.

    It is the one that a person edited since hf-zspa wrote the other. Of a card that is as `hf-zspa convert` made it,
    only metadata goes into the one that is there.

    Args:
        here: the card in the checkpoint's folder.
        there: that in `repository` on the Hub.

    Raises:
        ValueError: both were edited, or nobody knows which.
    """
    if here is None or there is None:
        return here if there is None else there
    if _own_text(here) == _own_text(there):
        return there
    mark, differing = _mark_of(here), "they differ"
    if mark and mark == _MARK.format(_digest(there)):
        return here
    if mark and mark == _MARK.format(_digest(here)):
        if mark == _mark_of(there):
            return there
        if _is_wordless(here):
            known, ours, theirs = entries_of(here, spelt=False), entries_of(here), entries_of(there)
            other = [name for name in ours if name not in WRITTEN and theirs.get(name, ours[name]) != ours[name]]
            if not other:
                lacking = [name for name in ours if name not in WRITTEN and name not in theirs]
                return with_entries(there, {name: known[name] for name in lacking})
            differing = f"their metadata differs ({', '.join(other)})"
    raise ValueError(
        f"nobody knows which of README.md here and README.md in {repository} is the newer one, and {differing}: fetch "
        f"that with hf download {repository} README.md --local-dir FOLDER, make one of the two, send it with hf upload "
        f"{repository} README.md, put it into the checkpoint's folder, and push again"
    )


def is_new(card: str) -> bool:
    """Whether no word of a card is a person's: it has the two markers, and no more than a title outside of them."""
    return _is_wordless(card) and _mark_of(card) == _MARK.format(_digest(card))


def pinned_tag(card: str) -> str | None:
    """The tag that the snippets of a card name, if any."""
    found = re.search(r'^revision = "([^"]+)"\s*$', card, re.MULTILINE)
    return found[1] if found else None


def tuned_line(card: str) -> str:
    """What a card says of how its settings were found; "" where it says nothing."""
    found = re.search(rf"^{re.escape(TUNED)}.*$", card.partition(BEGIN)[2].partition(END)[0], re.MULTILINE)
    return found[0].rstrip() if found else ""


def _check_markers(card: str) -> None:
    if (BEGIN in card) != (END in card) or card.find(BEGIN) > card.find(END):
        raise ValueError(
            "README.md has only one of the two hf-zspa markers: put the other one back; or remove both, after which "
            "hf-zspa writes no text into it, and later edits are to be sent with hf upload"
        )


def _own_text(card: str) -> str:
    """A card with nothing between its markers, and the newlines of Unix."""
    before, begin, rest = card.replace("\r\n", "\n").partition(BEGIN)
    return before + begin + "".join(rest.partition(END)[1:])


def _digest(card: str) -> str:
    return hashlib.sha256(_own_text(card).encode()).hexdigest()[:16]


def _mark_of(card: str) -> str | None:
    found = re.search(_MARK.format("[0-9a-f]{16}"), card)
    return found[0] if found else None


def _is_wordless(card: str) -> bool:
    lines = [line for line in body_of(_own_text(card)).splitlines() if line.strip()]
    return BEGIN in card and sum(not line.startswith("<!-- hf-zspa:") for line in lines) <= 1
