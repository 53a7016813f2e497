"""Two changed versions of a text as one, by lines, with the text that both were made of."""

from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher


def three_way(base: str, here: str, there: str) -> str | None:
    """The text with the changes of both sides; None where both changed the same lines, or lines that touch."""
    lines = [text.splitlines(keepends=True) for text in (base, here, there)]
    found: list[str] = []
    for before, ours, theirs in _regions(*lines):
        if ours != theirs and before not in (ours, theirs):
            return None
        found += theirs if ours == before else ours
    return "".join(found)


def _regions(*versions: Sequence[str]) -> Iterator[list[Sequence[str]]]:
    """Cuts three versions where all agree: in turn what is between two places of agreement, and a line that is one."""
    base, here, there = versions
    ours, theirs = _places(base, here), _places(base, there)
    last = (0, 0, 0)
    for i in [*(i for i in range(len(base)) if i in ours and i in theirs), None]:
        places = (len(base), len(here), len(there)) if i is None else (i, ours[i], theirs[i])
        yield [version[start:end] for version, start, end in zip(versions, last, places)]
        if i is not None:
            yield [[base[i]]] * 3
            last = (i + 1, ours[i] + 1, theirs[i] + 1)


def _places(base: Sequence[str], other: Sequence[str]) -> dict[int, int]:
    """Which line of another version each line of the base has become, in order; none for lines that changed."""
    blocks = SequenceMatcher(None, base, other, autojunk=False).get_matching_blocks()
    return {a + i: b + i for a, b, size in blocks for i in range(size)}
