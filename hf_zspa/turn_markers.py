"""Which tokens open and close a user turn: found by rendering a checkpoint's own chat template.

The template is rendered for a few conversations whose texts are known, so the text around a question is what the
template adds. That text is then tokenized in every surrounding a prompt may put it in, because a tokenizer may spell
the same marker in several ways: SentencePiece writes the first word of a text, or one after a space, with a ▁.
"""

import json
from collections.abc import Iterable, Iterator
from itertools import product
from os.path import commonprefix
from pathlib import Path
from typing import NamedTuple

import jinja2
from transformers import AutoTokenizer

QUESTIONS = ("which colour is it?", "how many are there?")
ANSWER = "it is green, I think."
SYSTEM = "you answer briefly."
# What may stand beside a marker in prompts that were not rendered here: written by hand, or with other texts.
BEFORE = ("", " ", "  ", "\n", "\n\n", ".", "?", ". ", "?\n")
AFTER = ("", " ", "\n", "which", " which", "Which", " Which", " \n")


class TurnMarkers(NamedTuple):
    """Token sequences that open and that close a user turn, every spelling of each; None where none was found."""

    start: list[list[int]] | None
    end: list[list[int]] | None


def load_tokenizer(folder: Path):
    """The tokenizer of a checkpoint's folder, never asking the network.

    Raises:
        ValueError: the folder has no tokenizer that transformers can load.
    """
    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, TypeError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{folder} has no tokenizer that can be loaded: {reason}") from error


def read_chat_template(folder: Path) -> str | None:
    """The chat template its processor would use, or None: a file of its own goes before the tokenizer's."""
    if (folder / "chat_template.jinja").is_file():
        return (folder / "chat_template.jinja").read_text(encoding="utf-8")
    for name in ("chat_template.json", "processor_config.json", "tokenizer_config.json"):
        if (folder / name).is_file():
            template = json.loads((folder / name).read_text(encoding="utf-8")).get("chat_template")
            if isinstance(template, list):  # several named ones
                template = {entry["name"]: entry["template"] for entry in template}.get("default")
            if template:
                return template
    return None


def special_token_ids(tokenizer) -> list[int]:
    """Ids of all tokens that are never text, ascending."""
    flagged = (i for i, token in tokenizer.added_tokens_decoder.items() if token.special)
    return sorted({*tokenizer.all_special_ids, *flagged})


def find_turn_markers(tokenizer, chat_template: str | None) -> TurnMarkers:
    """The markers of a checkpoint's user turns.

    Args:
        tokenizer: a fast tokenizer, since only these say where in the text a token stands.
        chat_template: its chat template; None finds no markers.

    Returns:
        Sequences to look for in a prompt, in the sense of `prompt_mask`: of starts the one that ends last counts, so
        one with the template's space after it stands beside the one without; of ends the first one counts.
    """
    if not chat_template:
        return TurnMarkers(None, None)
    texts = list(_renderings(tokenizer, chat_template))
    opening, closing = _opening_texts(texts), _closing_texts(texts)
    starts = {marker: None for text in opening for marker in (text.strip(), text.lstrip())}
    ends = {text.strip(): None for text in closing}
    rendered = [text for _, text in texts]
    return TurnMarkers(
        _without_longer(_spellings(tokenizer, starts, rendered), lambda long, short: long[-len(short) :] == short),
        _without_longer(_spellings(tokenizer, ends, rendered), lambda long, short: long[: len(short)] == short),
    )


def _renderings(tokenizer, chat_template: str) -> Iterator[tuple[list[dict], str]]:
    """Conversations and their texts. One that the template refuses, or leaves texts out of, is left out."""
    seen = set()
    for system, turns, content in product((False, True), (1, 2), ("string", "text", "image first", "text first")):
        messages = _conversation(system, turns, content)
        # The longest goes first in time: an assistant's answer, then the prompt for one.
        for prefix, prompts in [(messages, True), (messages, False)]:
            try:
                text = tokenizer.apply_chat_template(
                    prefix, chat_template=chat_template, tokenize=False, add_generation_prompt=prompts
                )
            except (jinja2.TemplateError, TypeError):  # raise_exception, or a content of a kind it cannot add up
                continue
            if text not in seen and all(text.count(said) == 1 for said in _texts_of(prefix)):
                seen.add(text)
                yield prefix, text
