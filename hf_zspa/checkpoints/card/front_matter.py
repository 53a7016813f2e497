"""The metadata at the head of a card, read as YAML and changed as text.

What need not change stays as it was written, with its comments, quotes, order and spelling: `no` and 1.10 read as YAML
and written anew would be `false` and 1.1. (ruamel.yaml keeps these, but drops a comment with the item before it, and
writes indentation anew.)
"""

import math
import re
import textwrap
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import yaml

_BLOCK = re.compile(r"\A\s*---[ \t]*\n(.*?\n)??---[ \t]*(?:\n|\Z)", re.DOTALL)
_COMMENTS = re.compile(r"(?:^#.*\n)*\Z", re.MULTILINE)
_INDENTED = re.compile(r"(?:^[ \t]*#.*\n)*\Z", re.MULTILINE)
# YAML takes some words for numbers, or for yes and no, which do no harm as a tag.
_WORDS = {"tags": (str, int, float, type(None)), "base_model": (str,)}
Path = tuple[str | int, ...]


def plain(card: str) -> str:
    """A card without a byte order mark, and with the newlines of Unix."""
    return card.removeprefix("\ufeff").replace("\r\n", "\n")


def split(card: str) -> tuple[str, str]:
    """The lines between the two --- at the head of a card, and all that is below; no lines where there are no ---."""
    card = plain(card)
    found = _BLOCK.match(card)
    return (found.group(1) or "", card[found.end() :]) if found else ("", card)


def joined(head: str, body: str) -> str:
    """The card of which `split` gives these two."""
    return f"---\n{head}---\n{body}" if head else body


def metadata_of(card: str) -> dict[str, Any]:
    """The metadata at the head of a card; none where there is none.

    Raises:
        ValueError: what stands there is not YAML, not a mapping, or has tags or a base_model that are not words.
    """
    data = load(split(card)[0])
    for name, kinds in _WORDS.items():
        if not all(isinstance(word, kinds) for word in strings(data.get(name))):
            raise ValueError(f"the metadata of README.md must have one word or a list of words as {name}: mend it")
    return data


def strings(value: Any) -> Sequence[Any]:
    """A metadata entry that may be one string or several, or missing."""
    return value if isinstance(value, list) else [] if value is None else [value]


def load(head: str, loader: type = yaml.SafeLoader) -> dict[str, Any]:
    """The value of a head. With yaml.BaseLoader every scalar is the string that stands there."""
    try:
        data = yaml.load(head, Loader=loader)
    except (yaml.YAMLError, ValueError) as error:  # a date such as 2024-02-30 is a ValueError
        raise ValueError(f"the metadata of README.md is not YAML: {' '.join(str(error).split())}") from error
    if head.strip() and data is not None and not isinstance(data, dict):
        raise ValueError("the metadata of README.md must be `name: value` lines between two lines of ---")
    return data or {}


def dump(data: Any) -> str:
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True)


def entries(head: str) -> dict[str, str]:
    """The lines of each entry of a head with the comments above it; under "" the comments that end it.

    Raises:
        ValueError: the head is not YAML, has an entry twice, or is no mapping with one entry to a line.
    """
    load(head)
    root = yaml.compose(head, Loader=yaml.SafeLoader)
    pairs = root.value if root is not None and isinstance(root, yaml.MappingNode) else []
    if pairs and root.flow_style:
        raise ValueError("the metadata of README.md must be `name: value` lines between two lines of ---")
    names = [str(key.value) for key, _ in pairs]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"the metadata of README.md has {name} twice: remove one")
    lines = [head.rfind("\n", 0, key.start_mark.index) + 1 for key, _ in pairs]
    # The first entry has all that is above it. Marks of values are of no use here: an alias has those of its anchor.
    starts = [0, *(_above(head, line) for line in lines[1:]), _above(head, len(head)) if lines else 0]
    return {name: head[start:end] for name, start, end in zip(names, starts, starts[1:])} | {"": head[starts[-1] :]}


def without_names(parts: dict[str, str]) -> str:
    """The head of which `entries` gives these; the comments of "" end it."""
    return "".join(lines for name, lines in parts.items() if name) + parts.get("", "")


def with_entry(head: str, name: str, value: Any) -> str:
    """A head with one entry more, at its end."""
    return without_names(entries(head) | {name: dump({name: value})})


def with_list(head: str, path: Path, add: Sequence[Any] = (), drop: Collection[int] = ()) -> str:
    """A head in which the list at a path of names and indices has other items at its end, and some less.

    Where it is written with one item to a line, all other lines stay; comments right above an item go with it. A list
    in brackets, or one word in place of a list, is written with one item to a line first, and the comments within it
    come to stand above the entry.

    Args:
        add: the items to put behind the others.
        drop: indices of items to take out.

    Raises:
        ValueError: another entry is an alias of something in this one.
    """
    wanted = load(head)
    *parents, last = path
    place: Any = wanted
    for step in parents:
        place = place[step]
    place[last] = [item for i, item in enumerate(strings(place.get(last))) if i not in drop] + list(add)
    name = str(path[0])
    for text in (head, _in_lines(head, name)):
        changed = _with_lines(text, path, add, drop)
        if changed is not None and _same(changed, wanted):
            return changed
    parts = entries(head)
    parts[name] = _all_comments(parts.get(name, "")) + dump({name: wanted[name]})
    if not _same(changed := without_names(parts), wanted):
        raise ValueError(f"the metadata of README.md shares {name} with another entry by an & anchor: write both out")
    return changed


def _with_lines(head: str, path: Path, add: Sequence[Any], drop: Collection[int]) -> str | None:
    """`with_list` of a list with one item to a line; None of any other."""
    try:
        node = _node(head, path)
    except yaml.YAMLError:  # an anchor is lost
        return None
    if not isinstance(node, yaml.SequenceNode) or node.flow_style or not node.value:
        return None
    dashes = [head.rfind("-", 0, item.start_mark.index) for item in node.value]
    lines = [head.rfind("\n", 0, dash) + 1 for dash in dashes]
    starts = [_above(head, line, indented=True) for line in lines]
    ends = [_end(head, item) for item in node.value]
    places = [place for pair in zip(starts, ends) for place in pair]
    if places != sorted(places):  # an alias, which has the marks of its anchor
        return None
    more = textwrap.indent(dump(list(add)), " " * (dashes[0] - lines[0])) if add else ""
    changed = head[: ends[-1]] + more + head[ends[-1] :]
    for i in sorted(drop, reverse=True):
        changed = changed[: starts[i]] + changed[ends[i] :]
    return changed


def _in_lines(head: str, name: str) -> str:
    """A head in which an entry is written with one item to a line, below its comments; its scalars stay as they are."""
    parts, node = entries(head), _node(head, (name,))
    if node is None:
        return head
    if isinstance(node, yaml.ScalarNode):
        node = yaml.SequenceNode("tag:yaml.org,2002:seq", [node])
    _unfold(node)
    key = yaml.ScalarNode("tag:yaml.org,2002:str", name)
    whole = yaml.MappingNode("tag:yaml.org,2002:map", [(key, node)], flow_style=False)
    parts[name] = _all_comments(parts[name]) + yaml.serialize(whole, allow_unicode=True, width=math.inf)
    return without_names(parts)


def _unfold(node: yaml.Node) -> None:
    if isinstance(node, yaml.CollectionNode):
        node.flow_style = False
        for item in node.value:
            for part in item if isinstance(item, tuple) else (item,):
                _unfold(part)


def _node(head: str, path: Path) -> yaml.Node | None:
    """What stands at a path, with its place in the text."""
    node = yaml.compose(head, Loader=yaml.SafeLoader)
    for step in path:
        if isinstance(node, yaml.MappingNode):
            node = next((value for key, value in node.value if key.value == step), None)
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int):
            node = node.value[step]
        else:
            return None
    return node


def _end(head: str, node: yaml.Node) -> int:
    """Where the last line of a node ends. The mark at the end of a block is of no use: it is behind comments."""
    while isinstance(node, yaml.CollectionNode) and node.value and not node.flow_style:
        item = node.value[-1]
        node = item[1] if isinstance(item, tuple) else item
    written = len(head[: node.end_mark.index].rstrip())
    return (head.find("\n", written) + 1) or len(head)


def _above(head: str, line: int, indented: bool = False) -> int:
    """Where the comments begin that stand right above a line: at the left margin, or anywhere."""
    found = (_INDENTED if indented else _COMMENTS).search(head[:line])
    return found.start() if found else line


def _all_comments(lines: str) -> str:
    """The comments of an entry, first those above it, as lines to stand above it."""
    found = re.match(r"(?:[ \t]*(?:#.*)?\n)*", lines)
    above = found.group() if found else ""
    return above + "".join(f"{comment.rstrip()}\n" for comment in _comments_within(lines[len(above) :]))


def _comments_within(lines: str) -> Iterator[str]:
    """The comments of an entry: what is between the tokens of YAML, and behind the | or > of a block."""
    last = 0
    for token in yaml.scan(lines, Loader=yaml.SafeLoader):
        yield from re.findall("#.*", lines[last : token.start_mark.index])
        last = max(last, token.end_mark.index)
        if isinstance(token, yaml.ScalarToken) and token.style in ("|", ">"):
            yield from re.findall("#.*", lines[token.start_mark.index :].partition("\n")[0])


def _same(head: str, wanted: dict[str, Any]) -> bool:
    try:
        return load(head) == wanted
    except ValueError:
        return False
