"""A card is written: a new one, or one that is there is brought up to date."""

import re
from pathlib import Path
from typing import Any

from huggingface_hub import CardData, EvalResult

from .metadata import entries_of, metadata_of, strings, with_entries
from .own_text import BEGIN, END, decoded, is_new, pinned_tag, tuned_line, with_written
from .results import with_results
from .text import text

TAGS = ("custom_code", "visual-token-pruning", "zspaprune", "arxiv:2510.17197")
DEFAULTS = {"library_name": "transformers", "pipeline_tag": "image-text-to-text"}
INHERITED = ("license", "license_name", "license_link", "language")


def base_metadata(folder: Path, repository: str | None) -> dict[str, Any]:
    """What the card of a base, in its folder, says that holds for a conversion too: licence, language, and its name.

    Raises:
        ValueError: that card is not UTF-8, or has no readable metadata.
    """
    readme = folder / "README.md"
    card = decoded(readme.read_bytes(), str(readme)) if readme.is_file() else ""
    try:
        known, spelt = entries_of(card, spelt=False), entries_of(card)
    except ValueError as error:
        raise ValueError(str(error).replace("README.md", str(readme), 1)) from error
    found = {name: spelt[name] for name in INHERITED if known.get(name) is not None}
    return found | ({"base_model": repository} if repository else {})


def write_card(
    config: dict[str, Any],
    name: str,
    *,
    existing: str | None = None,
    metadata: dict[str, Any] | None = None,
    tag: str | None = None,
    branch: str = "main",
    picture: bool = False,
    results: list[EvalResult] | None = None,
    tuned: str = "",
) -> str:
    """A card, new or refreshed.

    Args:
        config: the checkpoint's `config.json`.
        name: what `from_pretrained` is to be given.
        existing: the card there is; it is titled anew, with the last part of `name`, where nobody has touched it since
            the conversion.
        metadata: what a new card knows of the base, see `base_metadata`.
        tag: what the snippets pin.
        branch: what they name where there is no tag.
        picture: whether `kept-tokens.png`, drawn from this checkpoint, is beside the card.
        results: what takes the place of the results of hf-zspa that the card has; None leaves them.
        tuned: the line that says how its settings were found; "" leaves the one it has.

    Raises:
        ValueError: the existing card has no readable metadata, or only one of the two markers.
    """
    short = name.rpartition("/")[2]
    if existing is None:
        head = CardData(**DEFAULTS | (metadata or {})).to_yaml()
        existing = f"---\n{head}\n---\n\n# {short}\n\n{BEGIN}{END}\n"
    elif is_new(existing):
        existing = re.sub("^# .*", lambda _: f"# {short}", existing, count=1, flags=re.MULTILINE)
    changed = _added(existing)
    if results:
        changed["model-index"] = with_results(entries_of(existing, False).get("model-index") or [], short, results)
    existing = with_entries(existing, changed)
    tuned = tuned or tuned_line(existing)
    return with_written(existing, text(config, name, metadata_of(existing), tag, branch, picture, tuned))


def refreshed_card(card: str, config: dict[str, Any], name: str, **written: Any) -> str:
    """A card with what hf-zspa writes into it as `config` is now; the name, tag and branch that it gives stay.

    Args:
        name: what `from_pretrained` is to be given, where the card does not say.
        written: arguments of `write_card`.
    """
    ours = card.partition(BEGIN)[2].partition(END)[0]
    given = re.search(r'from_pretrained\("([^"]+)"', ours)
    branch = re.search(r'^revision = "([^"]+)" ', ours, re.MULTILINE)
    return write_card(
        config, given[1] if given else name, existing=card, tag=pinned_tag(card),
        branch=branch[1] if branch else "main", **written,
    )  # fmt: skip


def _added(card: str) -> dict[str, Any]:
    """The entries that hf-zspa adds to the metadata of a card, where it lacks them."""
    data, tags = metadata_of(card), list(strings(entries_of(card).get("tags")))
    # Of the Hub's four relations the nearest: the weights are the base's, what they are fed is not.
    relation = {"base_model_relation": "finetune"} if data.base_model else {}
    found: dict[str, Any] = {name: value for name, value in (DEFAULTS | relation).items() if data.get(name) is None}
    missing = [tag for tag in TAGS if tag not in tags]
    return found | ({"tags": tags + missing} if missing else {})
