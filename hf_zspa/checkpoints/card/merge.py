"""One card of two that may each have been edited by hand: entry by entry of the metadata, line by line of the text.

What both were made of is a card that hf-zspa wrote earlier, and its mark says which. With that, a removal and an
addition can be told apart. Without it nothing is dropped: what only one card has stays, and what differs is left to the
person.
"""

from collections.abc import Iterable
from itertools import chain

from .front_matter import entries, joined, load, split, strings, with_list, without_names
from .own_text import fits, is_new, is_wordless, mark_of, own_text
from .results import INDEX, results_in, with_results
from .three_way import three_way

FACTS = ("base_model", "license", "license_name", "license_link")  # what a conversion knows of the weights


def merged(here: str, there: str, repository: str, older: Iterable[str] = ()) -> str:
    """One card of the two.

    Args:
        here: the card in the checkpoint's folder.
        there: that in `repository` on the Hub.
        older: cards that were in the repository before, the likelier first. They are looked at only where that of
            `here` and `there` does not say what both were made of.

    Raises:
        ValueError: both changed the same entry of the metadata or the same lines, or what they were made of is not
            known and they differ; or their metadata is not readable.
    """
    if own_text(here) == own_text(there):
        return there
    base = _origin(here, there, older)
    (our_head, ours), (their_head, theirs) = split(own_text(here)), split(own_text(there))
    if base is None:
        head, differing = _merged_heads("", our_head, their_head, there_wins=is_new(here))
        body = _body_without_base(here, there)
    else:
        base_head, base_body = split(own_text(base))
        head, differing = _merged_heads(base_head, our_head, their_head)
        body = three_way(base_body, ours, theirs)
    if body is None or differing:
        what = f"its metadata ({', '.join(differing)})" if differing else "its text"
        raise ValueError(
            f"README.md {_relation(here, base, repository)}, and {what} differs: fetch that with "
            f"hf download {repository} README.md --local-dir FOLDER, make one of the two, send it with "
            f"hf upload {repository} README.md, and push again"
        )
    return joined(head, body)


def _origin(here: str, there: str, older: Iterable[str]) -> str | None:
    """The card that hf-zspa wrote last before each of two was edited, or left as it was."""
    mark = mark_of(here)
    if mark is None:
        return None
    near = [there, here] if mark_of(there) == mark else [there]
    return next((card for card in chain(near, older) if fits(card, mark)), None)


def _relation(here: str, base: str | None, repository: str) -> str:
    """How two cards that differ came to be, as far as that is known."""
    if base is not None:
        return f"was changed here and in {repository}"
    if mark_of(here) is None:  # that there may well be what it was made of, and an older one as well
        return (
            "has no hf-zspa markers, or none that a push has written between, so nobody knows whether it or that in "
            f"{repository} is the edited one"
        )
    return f"was not made of that in {repository}"


def _body_without_base(here: str, there: str) -> str | None:
    """The text of two cards of which nobody knows what they were made of: the one that has all there is."""
    ours, theirs = split(own_text(here))[1], split(own_text(there))[1]
    if ours == theirs or _adds_nothing(here, theirs):
        return theirs
    return ours if _adds_nothing(there, ours) else None


def _adds_nothing(card: str, text: str) -> bool:
    """Whether nobody has edited a card since hf-zspa wrote it, and its text has nothing but what another has too."""
    if not fits(card, mark_of(card)):
        return False
    lines = iter(text.splitlines())
    return is_wordless(card) or all(line in lines for line in split(own_text(card))[1].splitlines())


def _merged_heads(base: str, here: str, there: str, there_wins: bool = False) -> tuple[str, list[str]]:
    """One head of two, and the names of the entries that both changed.

    Args:
        base: what both were made of; "" where that is not known.
        there_wins: what differs is no conflict unless it is one of FACTS.
    """
    before, ours, theirs = entries(base), entries(here), entries(there)
    found, lists, differing = {}, [], []
    for name in {**theirs, **ours}:
        was, our, their = (parts.get(name) for parts in (before, ours, theirs))
        try:
            chosen = _merged_entry(was, our, their)
        except _BothChanged:
            chosen = their
            if name in ("tags", INDEX) and our and their and _comments(our) <= _comments(their):
                lists.append(name)
            elif not there_wins or name in FACTS:
                differing.append(name or "comments")
        if chosen is not None:
            found[name] = chosen
    head = without_names(found)
    if "tags" in lists:
        head = _with_tags(head, *(list(strings(load(text).get("tags"))) for text in (base, here, there)))
    if INDEX in lists:
        old, new = (results_in(load(text)) for text in (base, here))
        head = with_results(head, [r for r in new if r not in old], lambda result: result in old and result not in new)
    return head, differing


class _BothChanged(Exception):
    pass


def _merged_entry(was: str | None, our: str | None, their: str | None) -> str | None:
    """The lines of one entry; None where it is to go."""
    if our in (was, their):
        return their
    if their == was:
        return our
    if our and their and _value(our) == _value(their):
        for one, other in ((their, our), (our, their)):
            if _comments(one) >= _comments(other):
                return one
    raise _BothChanged


def _with_tags(head: str, was: list, ours: list, theirs: list) -> str:
    add = [tag for tag in ours if tag not in was and tag not in theirs]
    drop = [i for i, tag in enumerate(theirs) if tag in was and tag not in ours]
    return with_list(head, ("tags",), add, drop) if add or drop else head


def _value(lines: str) -> object:
    try:
        return load(lines)
    except ValueError:  # an alias of an anchor in another entry
        return lines


def _comments(lines: str) -> set[str]:
    return {line.partition("#")[2].strip() for line in lines.splitlines() if "#" in line}
