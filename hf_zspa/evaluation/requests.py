"""lmms-eval's requests as batches of samples, and what their arguments mean to `generate`."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from lmms_eval.api.instance import Instance
from loguru import logger
from torch import Tensor

from .counting import CountingPruner

FAILED = "[hf_zspa: this sample failed]"
NEW_TOKENS = 1024  # where a task sets no limit
_FORWARDED = ("max_new_tokens", "num_beams", "do_sample", "temperature", "top_p", "top_k", "repetition_penalty")
_SAMPLING = ("temperature", "top_p", "top_k")


@dataclass(frozen=True)
class Sample:
    """One request: `index` in the list it came in; `continuation` is what to score, None for what to answer."""

    index: int
    request_type: str
    task: str
    split: str
    doc_id: int | str
    messages: Any
    cache_key: tuple
    continuation: str | None = None
    padding: bool = False  # sent only to keep several processes in step

    @property
    def name(self) -> str:
        return f"sample {self.doc_id} of {self.task} ({self.split})"


@dataclass(frozen=True)
class Batch:
    """Samples with the same arguments, and the pruner that counts for them."""

    samples: list[Sample]
    arguments: dict[str, Any]
    counter: CountingPruner = field(default_factory=lambda: CountingPruner(None))


def batches_of(
    requests: list[Instance], documents: Any, size: int, as_messages: Callable[[Any], Any]
) -> Iterator[Batch]:
    """Batches of up to `size` requests with equal arguments, long prompts first, so that padding stays short.

    A batch's images are opened when it is its turn.
    """
    groups: dict[str, list[int]] = {}
    for index, request in enumerate(requests):
        arguments = request.args[2] if request.request_type == "generate_until" else {}
        groups.setdefault(json.dumps(arguments, sort_keys=True, default=str), []).append(index)
    for indices in groups.values():
        indices.sort(key=lambda i: -len(requests[i].args[0]))
        for start in range(0, len(indices), size):
            chosen = indices[start : start + size]
            first = requests[chosen[0]]
            arguments = first.args[2] if first.request_type == "generate_until" else {}
            yield Batch([_sample(i, requests[i], documents, as_messages) for i in chosen], arguments)


def _sample(index: int, request: Instance, documents: Any, as_messages: Callable[[Any], Any]) -> Sample:
    padding = bool((request.metadata or {}).get("__padding_only__"))
    if request.request_type == "generate_until":
        context, to_messages, arguments, doc_id, task, split = request.args
        messages = to_messages(documents[task][split][doc_id])
        key: tuple = (context, arguments)
        continuation = None
    else:
        context, target, to_visual, doc_id, task, split = request.args
        document = documents[task][split][doc_id]
        continuation = target(document) if callable(target) else target
        visuals = to_visual(document) if to_visual else []
        content = [{"type": "image", "url": image} for image in visuals or []]
        messages = [{"role": "user", "content": [*content, {"type": "text", "text": context}]}]
        key = (context, continuation)
    return Sample(index, request.request_type, task, split, doc_id, as_messages(messages), key, continuation, padding)


def generation_arguments(arguments: dict[str, Any], defaults: Any) -> tuple[dict[str, Any], list[str]]:
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


def continuation_scores(
    logits: Tensor, input_ids: Tensor, mask: Tensor, prompt_lengths: Tensor
) -> Iterator[tuple[float, bool]]:
    """Per row the log-probability of the tokens after its prompt, and whether each is the likeliest.

    Args:
        logits: `(batch, S, vocabulary)`; input_ids and mask: `(batch, S)`, padded on the left.
        prompt_lengths: `(batch,)`, tokens of each prompt without padding.
    """
    for row, ids, real, length in zip(logits, input_ids, mask, prompt_lengths):
        start = len(ids) - int(real.sum()) + int(length)
        likelihood = torch.log_softmax(row[start - 1 : -1].float(), -1)
        wanted = ids[start:]
        greedy = bool((likelihood.argmax(-1) == wanted).all())
        yield float(likelihood.gather(1, wanted[:, None]).sum()), greedy
