"""Which tokens open and close a user turn: found by rendering a checkpoint's own chat template.

The template is rendered for a few conversations whose texts are known, so that what stands around a question is what
the template adds. It is then tokenized in every surrounding a prompt may put it in, because a tokenizer may spell the
same marker in several ways: SentencePiece, for one, starts a word with ▁ after a space but not after a line break.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from itertools import product
from pathlib import Path
from typing import NamedTuple

import jinja2
from huggingface_hub.errors import StrictDataclassError

TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "tekken.json", "tiktoken.model")
SYSTEM, ANSWER = "you answer briefly", "it is green"
QUESTIONS = ("which colour is it?", "how many are there?")
# What may stand beside a marker in prompts other than those rendered here.
BEFORE = ("", " ", "  ", "\n", "\n\n", ".", "?", ". ", "?\n", ".\n\n")
AFTER = ("", " ", "\n", "which", " which", " Which", " \n")


class TurnMarkers(NamedTuple):
    """Token sequences that open and that close a user turn, in every spelling; None where there are none."""

    start: list[list[int]] | None
    end: list[list[int]] | None


class Rendering(NamedTuple):
    """A conversation that ends with a user turn, and its text with and without the prompt for an answer."""

    messages: list[dict]
    text: str
    without_prompt: str
    earlier: str  # the text of all messages before the last


def load_tokenizer(folder: Path):
    """The fast tokenizer of a checkpoint's folder; the network is never asked.

    Raises:
        ValueError: the folder has none that transformers can load.
    """
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        raise ValueError(f"{folder} has no tokenizer: none of the files {', '.join(TOKENIZER_FILES)}")
    from transformers import AutoTokenizer, PreTrainedTokenizerFast  # which take seconds

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        if all((folder / name).is_file() for name in ("tekken.json", "tokenizer.json")):
            # As the processor does; where mistral-common is installed transformers would read the first of the two.
            tokenizer = PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)
    except (ImportError, LookupError, OSError, StrictDataclassError, TypeError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]  # the config is read, too
        raise ValueError(f"the tokenizer of {folder} cannot be loaded: {reason}") from error
    if not getattr(tokenizer, "is_fast", False):
        raise ValueError(f"{folder} has only a slow tokenizer: save it with its tokenizer.json first")
    return tokenizer


def read_chat_template(folder: Path) -> str | None:
    """The chat template that the processor of a checkpoint's folder uses; None where there is none."""
    for name in ("processor_config.json", "chat_template.json", "chat_template.jinja", "tokenizer_config.json"):
        if not (folder / name).is_file():
            continue
        text = (folder / name).read_text(encoding="utf-8")
        template = text if name.endswith(".jinja") else json.loads(text).get("chat_template")
        if isinstance(template, list):
            template = {entry["name"]: entry["template"] for entry in template}
        if isinstance(template, dict):  # several templates by name
            template = template.get("default")
        if template:
            return template
    return None


def special_token_ids(tokenizer, others: Iterable[str] = ()) -> list[int]:
    """Ids of the tokens that are never text, ascending: those flagged so, and `others` as far as there are such."""
    flagged = (i for i, token in tokenizer.added_tokens_decoder.items() if token.special)
    vocabulary = tokenizer.get_vocab()
    return sorted({*tokenizer.all_special_ids, *flagged, *(vocabulary[name] for name in others if name in vocabulary)})


def marker_ids(tokenizer, markers: Iterable[str], opener: str) -> list[int | list[int]]:
    """What a processor writes beside an image: the ids of these tokens, ascending, or, to a tokenizer to which they are
    text, the sequences that it makes of the token `opener` and the text behind it.

    Raises:
        ValueError: it makes none of them.
    """
    vocabulary = tokenizer.get_vocab()
    found = sorted(vocabulary[marker] for marker in markers if marker in vocabulary)
    if found:
        return found
    spelled = [tokenizer.encode(opener + marker + opener, add_special_tokens=False)[:-1] for marker in markers]
    opens = [vocabulary.get(opener)]
    if any(len(ids) < 2 or ids[:1] != opens or tokenizer.unk_token_id in ids for ids in spelled):
        raise ValueError(f"the tokenizer lacks {', '.join(markers)}, by which the tiles of one image are told apart")
    return spelled


def find_turn_markers(tokenizer, chat_template: str | None) -> TurnMarkers:
    """The markers of a checkpoint's user turns, as `prompt_mask` looks for them.

    A start that includes the space or line break the template puts after it stands beside the one that does not: in a
    prompt the one that ends last counts. A template that puts a system prompt right before the question, with nothing
    but space between them, has no marker there: the system prompt then counts as part of the question.

    Args:
        tokenizer: a fast tokenizer, since only these say where in a text a token stands.
        chat_template: its chat template, if it has one.
    """
    renderings = list(_renderings(tokenizer, chat_template)) if chat_template else []
    texts = [rendering.text for rendering in renderings]
    starts = [marker for text in _openings(renderings) for marker in (text.strip(), text.lstrip())]
    ends = [text.strip() for text in _closings(renderings)]
    return TurnMarkers(
        _shortest(_spellings(tokenizer, starts, texts), lambda long, short: long[-len(short) :] == short) or None,
        _shortest(_spellings(tokenizer, ends, texts), lambda long, short: long[: len(short)] == short) or None,
    )


def _renderings(tokenizer, chat_template: str) -> Iterator[Rendering]:
    """The conversations that the template accepts and renders in full, image first, text first and without image."""

    def render(messages, add_generation_prompt=False) -> str:
        """The text, or nothing where the template refuses the conversation."""
        options = {"chat_template": chat_template, "add_generation_prompt": add_generation_prompt, "tokenize": False}
        try:
            return tokenizer.apply_chat_template(messages, **options)
        except (jinja2.TemplateError, TypeError):  # it raises an exception, or adds up text and lists
            return ""

    for system, turns, content in product((False, True), (1, 2), (_string, _text, _image_first, _text_first)):
        messages = _conversation(system, turns, content)
        text = render(messages, add_generation_prompt=True)
        said = [SYSTEM] * system + [*QUESTIONS[:turns]] + [ANSWER] * (turns - 1)
        as_repr = any(str(message["content"]) in text for message in messages if content is not _string)
        if all(text.count(words) == 1 for words in said) and not as_repr:
            yield Rendering(messages, text, render(messages), render(messages[:-1]) if messages[1:] else "")


def _conversation(system: bool, turns: int, content: Callable) -> list[dict]:
    plain = _string if content is _string else _text
    messages = [{"role": "system", "content": plain(SYSTEM)}] if system else []
    for question in QUESTIONS[:turns]:
        messages += [{"role": "user", "content": content(question)}, {"role": "assistant", "content": plain(ANSWER)}]
    return messages[:-1]


def _string(words: str) -> str:
    return words


def _text(words: str) -> list[dict]:
    return [{"type": "text", "text": words}]


def _image_first(words: str) -> list[dict]:
    return [{"type": "image"}, *_text(words)]


def _text_first(words: str) -> list[dict]:
    return [*_text(words), {"type": "image"}]


def _without_images(renderings: list[Rendering]) -> list[Rendering]:
    plain = (_string(QUESTIONS[0]), _text(QUESTIONS[0]), _string(QUESTIONS[1]), _text(QUESTIONS[1]))
    return [rendering for rendering in renderings if rendering.messages[-1]["content"] in plain]


def _openings(renderings: list[Rendering]) -> list[str]:
    """What the template writes before the last question and after all that was said earlier."""
    pieces = []
    for rendering in _without_images(renderings):
        question = QUESTIONS[sum(message["role"] == "assistant" for message in rendering.messages)]
        piece = rendering.text[: rendering.text.index(question)].removeprefix(rendering.earlier)
        for said in (SYSTEM, QUESTIONS[0], ANSWER):
            piece = piece.split(said)[-1]
        pieces.append(piece.lstrip())
    return _shortest(filter(str.strip, pieces), str.endswith)


def _closings(renderings: list[Rendering]) -> list[str]:
    """What the template writes between a question and its answer, and after the last question."""
    pieces = []
    for rendering in _without_images(renderings):
        for text in (rendering.text, rendering.without_prompt):
            pieces += [text.split(question)[1].split(ANSWER)[0] for question in QUESTIONS if question in text]
    return _shortest((piece.strip() for piece in pieces if piece.strip()), str.startswith)


def _spellings(tokenizer, markers: list[str], texts: list[str]) -> list[list[int]]:
    """The tokens of the markers in the texts and in every surrounding of `BEFORE` and `AFTER`."""
    before = [*BEFORE, *(end + space for end in [tokenizer.eos_token or ""] for space in ("", " ", "\n"))]
    found: list[list[int]] = []
    for marker in dict.fromkeys(markers):
        surroundings = [a + marker + b for a, b in product(before, AFTER)]
        encoded = tokenizer([*texts, *surroundings], add_special_tokens=False, return_offsets_mapping=True)
        for text, ids, offsets in zip([*texts, *surroundings], encoded["input_ids"], encoded["offset_mapping"]):
            found += _tokens_of(marker, text, ids, offsets)
    return found


def _tokens_of(marker: str, text: str, ids: list[int], offsets: list[tuple[int, int]]) -> Iterator[list[int]]:
    """The tokens of each place of `marker` in `text`, unless one of them also holds words that are not the marker's."""
    begin = text.find(marker)
    while begin >= 0:
        end = begin + len(marker)
        inside = [i for i, (first, last) in enumerate(offsets) if first < end and last > begin]
        first, last = offsets[inside[0]][0], offsets[inside[-1]][1]
        if not text[first:begin].strip() and not text[end:last].strip():
            yield [ids[i] for i in inside]
        begin = text.find(marker, end)


def _shortest(found, holds: Callable) -> list:
    """The distinct entries, shortest first, without those that another one is a part of."""
    kept: list = []
    for entry in sorted(found, key=lambda entry: (len(entry), entry)):
        if not any(holds(entry, shorter) for shorter in kept):
            kept.append(entry)
    return kept
