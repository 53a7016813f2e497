"""lmms-eval's requests as batches of samples, and what their arguments mean to `generate`."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from lmms_eval.api.instance import Instance
from loguru import logger

FAILED = "[hf_zspa: this sample failed]"
NEW_TOKENS = 1024  # where a task sets no limit
_FORWARDED = ("max_new_tokens", "num_beams", "do_sample", "temperature", "top_p", "top_k", "repetition_penalty")
_SAMPLING = ("temperature", "top_p", "top_k")


@dataclass(frozen=True)
class Sample:
    """One request.

    Attributes:
        index: its place in the list it came in.
        read: makes its messages, which may open files.
        padding: whether it is sent only to keep several processes in step.
        given: the answer whose likelihood is asked for.
    """

    index: int
    task: str
    split: str
    doc_id: int | str
    read: Callable[[], Any]
    cache_key: tuple
    padding: bool = False
    given: str = ""

    @cached_property
    def messages(self) -> Any:
        return self.read()

    @property
    def name(self) -> str:
        return f"sample {self.doc_id} of {self.task} ({self.split})"


@dataclass(frozen=True)
class Batch:
    """Samples with the same arguments."""

    samples: list[Sample]
    arguments: dict[str, Any]


class SampleError(RuntimeError):
    """A sample could not be answered; the message names it."""


def batches_of(
    requests: list[Instance], documents: Any, size: int, as_messages: Callable[[Any], Any]
) -> Iterator[Batch]:
    """Batches of up to `size` requests with equal arguments, long prompts first, so that padding stays short."""
    groups: dict[str, list[int]] = {}
    for index, request in enumerate(requests):
        groups.setdefault(json.dumps(request.args[2], sort_keys=True, default=str), []).append(index)
    for indices in groups.values():
        indices.sort(key=lambda i: -len(requests[i].args[0]))
        for start in range(0, len(indices), size):
            chosen = indices[start : start + size]
            samples = [_sample(i, requests[i], documents, as_messages) for i in chosen]
            yield Batch(samples, requests[chosen[0]].args[2])


def _sample(index: int, request: Instance, documents: Any, as_messages: Callable[[Any], Any]) -> Sample:
    context, to_messages, arguments, doc_id, task, split = request.args
    padding = bool((request.metadata or {}).get("__padding_only__"))

    def read() -> Any:
        return as_messages(to_messages(documents[task][split][doc_id]))

    return Sample(index, task, split, doc_id, read, (context, arguments), padding)


def generation_arguments(arguments: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """What of a task's `generation_kwargs` goes to `generate`, and the strings at which an answer ends.

    Temperature 0, and no word of sampling at all, mean greedy decoding, as in lmms-eval's own models.
    """
    arguments = dict(arguments)
    until = arguments.pop("until", [])
    until = [until] if isinstance(until, str) else list(until)
    if "max_gen_toks" in arguments:
        arguments.setdefault("max_new_tokens", arguments.pop("max_gen_toks"))
    ignored = sorted(name for name in arguments if name not in _FORWARDED)
    if ignored:
        logger.warning("hf_zspa ignores the generation arguments {}", ", ".join(ignored))
    chosen = {name: arguments[name] for name in _FORWARDED if arguments.get(name) is not None}
    chosen.setdefault("max_new_tokens", NEW_TOKENS)
    if not (chosen.get("temperature") or 0) > 0:
        chosen["do_sample"] = False
    if not chosen.setdefault("do_sample", True):
        # None, not absent: the checkpoint's own defaults for sampling would only raise warnings.
        chosen |= {name: None for name in _SAMPLING}
    if "num_beams" not in chosen:
        chosen["num_beams"] = 1
    return chosen, [stop for stop in until if stop]


def until_stops(text: str, until: list[str]) -> str:
    """The text before the first of the strings that end an answer."""
    ends = [place for place in (text.find(stop) for stop in until) if place >= 0]
    return text[: min(ends)].strip() if ends else text
