"""A card is written: a new one, or one that is there is brought up to date."""

import re
from pathlib import Path
from typing import Any

import yaml

from ...scenes import EXAMPLES
from .front_matter import dump, load, metadata_of, split, strings, with_entry, with_list
from .own_text import BEGIN, END, check_markers, is_new, read_card, with_written
from .results import with_measured
from .text import PICTURE, text

SHIPPED_PICTURE = EXAMPLES / PICTURE
TAGS = ("custom_code", "visual-token-pruning", "zspaprune", "arxiv:2510.17197")
DEFAULTS = {"library_name": "transformers", "pipeline_tag": "image-text-to-text"}
INHERITED = ("license", "license_name", "license_link", "language")


def base_metadata(folder: Path, repository: str | None) -> dict[str, Any]:
    """What the card of a base, in its folder, says that holds for a conversion too: licence, language, and its name."""
    readme = folder / "README.md"
    head = split(read_card(readme.read_bytes(), str(readme), to_change=False))[0] if readme.is_file() else ""
    # As strings: the language `no` is Norwegian.
    known, spelt = load(head), load(head, yaml.BaseLoader)
    found = {name: spelt[name] for name in INHERITED if known.get(name) is not None}
    return found | ({"base_model": repository} if repository else {})


def card(
    config: dict[str, Any],
    name: str,
    *,
    existing: str | None = None,
    metadata: dict[str, Any] | None = None,
    revision: str | None = None,
    picture: str | None = None,
    results: dict[str, Any] | None = None,
) -> str:
    """A card, new or refreshed.

    Args:
        config: the checkpoint's `config.json`.
        name: what `from_pretrained` is to be given.
        existing: the card there is; it is titled anew, with the last part of `name`, where nobody has touched it since
            the conversion.
        metadata: what a new card knows of the base, see `base_metadata`.
        revision: the tag or commit that the snippets pin; None pins nothing.
        picture: what `kept-tokens.png` beside the card shows, see `picture_caption`; None for no picture.
        results: a `results.json` of `hf-zspa eval`; None leaves the results that the card has.

    Raises:
        ValueError: the existing card has no readable metadata, or only one of the two markers, or `results` has no row
            for the card or rows that are none.
    """
    short = name.rpartition("/")[2]
    if existing is None:
        existing = f"---\n{dump(DEFAULTS | (metadata or {}))}---\n\n# {short}\n\n{BEGIN}{END}\n"
    elif is_new(existing):
        existing = re.sub("^# .*", lambda _: f"# {short}", existing, count=1, flags=re.MULTILINE)
    check_markers(existing)
    metadata_of(existing)
    head, body = split(existing)
    gap = "" if head or body.startswith("\n") else "\n"
    head = _with_ours(head)
    if results is not None:
        head = with_measured(head, short, results, config)
    whole = f"---\n{head}---\n{gap}{body}"
    return with_written(whole, text(config, name, load(head), revision, picture))


def _with_ours(head: str) -> str:
    """A head with what hf-zspa adds: the defaults and the tags that it lacks."""
    known = load(head)
    # Of the Hub's four relations the nearest: the weights are the base's, what they are fed is not.
    relation = {"base_model_relation": "finetune"} if known.get("base_model") else {}
    for name, value in (DEFAULTS | relation).items():
        if name not in known:
            head = with_entry(head, name, value)
    missing = [tag for tag in TAGS if tag not in strings(known.get("tags"))]
    return with_list(head, ("tags",), missing) if missing else head


def picture_caption(file: Path) -> str | None:
    """What the picture of a card shows; None where there is no such file."""
    if not file.is_file():
        return None
    shipped = file.read_bytes() == SHIPPED_PICTURE.read_bytes()
    by = "the small model inside hf_zspa, at a keep ratio of 0.1" if shipped else "this checkpoint"
    return (
        f"Tokens kept by {by}: orange are those closest to the question, blue those added because they are unlike all "
        "kept before them."
    )
