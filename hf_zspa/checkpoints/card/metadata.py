"""The metadata at the head of a card: read and checked by huggingface_hub, changed entry by entry.

Lines of entries that need not change stay as they are typed. Read and written anew, the language `no`, Norwegian, would
be `false`, and the version 1.10 would be 1.1.
"""

from collections.abc import Sequence
from typing import Any

import yaml
from huggingface_hub import CardData, ModelCard, ModelCardData
from huggingface_hub.repocard import REGEX_YAML_BLOCK


def head_of(card: str) -> str:
    """The lines between the two --- at the head of a card, as the Hub finds them; "" where there are none."""
    found = REGEX_YAML_BLOCK.match(card)
    return found[2] if found else ""


def body_of(card: str) -> str:
    found = REGEX_YAML_BLOCK.match(card)
    return card[found.end() :] if found else card


def metadata_of(card: str) -> ModelCardData:
    """The metadata of a card; `entries_of` has tags, which may be one word there, as a list.

    Raises:
        ValueError: what stands there is not YAML, or not what the Hub has in the place of it.
    """
    try:
        data: Any = ModelCard(card if head_of(card) else f"---\n{{}}\n---\n{card}").data
    except (yaml.YAMLError, AttributeError, TypeError, ValueError) as error:  # the last of a date such as 2024-02-30
        raise ValueError(f"the metadata of README.md cannot be read, mend it: {_line(error)}") from error
    for name, words in (("tags", entries_of(card).get("tags")), ("base_model", data.base_model)):
        if not all(isinstance(word, str) for word in strings(words)):
            raise ValueError(f"the metadata of README.md must have one word or a list of words as {name}: mend it")
    return data


def entries_of(card: str, spelt: bool = True) -> dict[str, Any]:
    """The entries of the metadata by name.

    Args:
        spelt: every scalar is the text that stands there; else what YAML takes it for.

    Raises:
        ValueError: they cannot be read.
    """
    try:
        data = yaml.load(head_of(card), Loader=yaml.BaseLoader if spelt else yaml.SafeLoader)
    except (yaml.YAMLError, ValueError) as error:
        raise ValueError(f"the metadata of README.md is not YAML: {_line(error)}") from error
    return data if isinstance(data, dict) else {}


def strings(value: Any) -> Sequence[Any]:
    """A metadata entry that may be one string or several, or missing."""
    return value if isinstance(value, list) else [value] if value not in (None, "") else []


def with_entries(card: str, changed: dict[str, Any]) -> str:
    """A card whose metadata has these entries, in the place of those of the same name or at the end.

    Raises:
        ValueError: the metadata is not one entry below the other, or other entries are aliases of something in these.
    """
    if not changed:
        return card
    newline, found = "\r\n" if "\r\n" in card else "\n", REGEX_YAML_BLOCK.match(card)
    if not found:
        gap = "" if card.startswith(newline) else newline
        return f"---{newline}{CardData(**changed).to_yaml(newline)}{newline}---{newline}{gap}{card}"
    head, missing = found[2] + newline if found[2] else "", dict(changed)
    root = yaml.compose(head, Loader=yaml.SafeLoader)
    starts = [(str(key.value), key.start_mark.index) for key, _ in (root.value if root else [])]
    ends = [start for _, start in starts[1:]] + [len(head)]
    for (name, start), end in reversed(list(zip(starts, ends))):
        if name in missing:
            entry = CardData(**{name: missing.pop(name)}).to_yaml(newline)
            head = f"{head[:start]}{entry}{newline}{_comments_below(head[start:end])}{head[end:]}"
    if missing:
        head += CardData(**missing).to_yaml(newline) + newline
    new = f"{card[: found.start(2)]}{head.removesuffix(newline)}{card[found.end(2) :]}"
    try:
        if entries_of(new, spelt=False) == entries_of(card, spelt=False) | changed:
            return new
    except ValueError:
        pass
    raise ValueError(
        f"the metadata of README.md has no place for {', '.join(changed)}: write it as one `name: value` below the "
        "other, each name once, and without & and *"
    )


def _comments_below(lines: str) -> str:
    """The comments and empty lines that end an entry, and belong to the next."""
    last = lines.splitlines(keepends=True)
    first = len(last)
    while first and last[first - 1].strip()[:1] in ("", "#"):
        first -= 1
    return "".join(last[first:])


def _line(error: object) -> str:
    return " ".join(str(error).split())
