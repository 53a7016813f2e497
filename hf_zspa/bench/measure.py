"""Times and sizes of answers, method against method in one run: interleaved, warm, medians with quartiles."""

import copy
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from transformers import StoppingCriteriaList

from ..remote_code.zspa_selection import VisualTokenPruner, ZspaPruner
from .clock import FirstTokenClock, peak_memory, seconds
from .published import PublishedDivPrune

METHODS = ("original", "zspa", "relevance", "divprune", "divprune (published)", "limit")
ROUNDS = 3  # at least, whatever the time allowed


@dataclass(frozen=True)
class Settings:
    """What every method is measured with.

    Attributes:
        new_tokens: tokens generated, always all of them.
        time_allowed: seconds after which no further round is begun.
    """

    keep_ratio: float = 0.1
    core_ratio: float = 0.2
    pooling: str = "mean"
    new_tokens: int = 16
    time_allowed: float = 60.0

    def pruner(self, method: str) -> VisualTokenPruner:
        """The pruner of a method; that of "original" keeps everything."""
        if method == "divprune (published)":
            return PublishedDivPrune(self.keep_ratio)
        core = {"relevance": 1.0, "divprune": 0.0}.get(method, self.core_ratio)
        return ZspaPruner(1.0 if method == "original" else self.keep_ratio, core, self.pooling)


def measure(
    model, pairs: list[dict[str, Any]], settings: Settings, methods: Iterable[str] = METHODS,
    advance: Callable[[], None] = lambda: None,
) -> list[dict[str, Any]]:  # fmt: skip
    """Measures answers to image-question pairs.

    Args:
        model: a pruning model.
        pairs: per question what its processor makes of it.
        advance: called after each answer.

    Returns:
        A row per method. Times are milliseconds, `{"median": …, "quartiles": [low, high]}`; memory is bytes.
    """
    methods = list(methods)
    stock = stock_view(model)
    runs = {method: [_runner(model, stock, pair, method, settings) for pair in pairs] for method in methods}
    for method in methods:
        runs[method][0](settings.new_tokens)
    times: dict[str, list[tuple[float, float]]] = {method: [] for method in methods}
    end = time.monotonic() + settings.time_allowed
    done = 0
    while done < ROUNDS or time.monotonic() < end:
        for i in range(len(pairs)):
            for method in methods[done % len(methods) :] + methods[: done % len(methods)]:
                times[method].append(runs[method][i](settings.new_tokens))
                advance()
        done += 1
    rows: list[dict[str, Any]] = []
    for method in methods:
        first, total = zip(*times[method])
        per_token = [(t - f) / max(1, settings.new_tokens - 1) for f, t in times[method]]
        rows.append(
            {"method": method, "runs": len(first)}
            | {"first_token": _spread(first), "per_token": _spread(per_token), "end_to_end": _spread(total)}
            | _parts(model, stock, pairs[0], method, settings)
            | {"peak_memory": peak_memory(partial(runs[method][0], settings.new_tokens), model.device)}
        )
    for row in rows if "limit" in times else []:
        both = list(zip(times[row["method"]], times["limit"]))  # taken one after the other
        row["first_token_to_limit"] = round(statistics.median(own[0] / limit[0] for own, limit in both), 4)
        row["end_to_end_to_limit"] = round(statistics.median(own[1] / limit[1] for own, limit in both), 4)
    return rows


def stock_view(model):
    """The same weights as a model of the stock class, which knows nothing of pruning."""
    stock = copy.copy(model)
    stock.__class__ = next(c for c in type(model).__mro__ if c.__module__.startswith("transformers.models."))
    return stock


def visual_arguments(model, pair: dict[str, Any]) -> dict[str, Any]:
    """The arguments of `get_image_features` among a pair's inputs."""
    return {name: pair[name] for name in model.visual_inputs["image"] if pair.get(name) is not None}


def _runner(model, stock, pair, method: str, settings: Settings) -> Callable[[int], tuple[float, float]]:
    """A function from a number of tokens to the seconds until the first and until the last of them."""
    if method == "limit":
        given, images = packed_prompt(model, pair, settings.pruner(method)), visual_arguments(model, pair)

        def answer(**options):
            with torch.no_grad():
                stock.get_image_features(**images)
            return stock.generate(**given, **options)
    else:
        pruner = settings.pruner(method)

        def answer(**options):
            return model.generate(**pair, visual_token_pruner=pruner, **options)

    def run(tokens: int) -> tuple[float, float]:
        clock = FirstTokenClock()
        answer(do_sample=False, min_new_tokens=tokens, max_new_tokens=tokens, pad_token_id=0,
               stopping_criteria=StoppingCriteriaList([clock]))  # fmt: skip
        return clock.first_token, clock.now()

    return run


@torch.no_grad()
def packed_prompt(model, pair: dict[str, Any], pruner: VisualTokenPruner) -> dict[str, Any]:
    """The pruned prompt as inputs of the stock class: embeddings `(batch, P, d)`, mask `(batch, P)`."""
    ids, mask = pair["input_ids"], pair["attention_mask"]
    visual = {name: value for name, value in pair.items() if name not in ("input_ids", "attention_mask")}
    pruned = model._prune_visuals(ids, mask, pruner, visual)
    positions = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
    _, packed, embeds, positions = model._pack(ids, mask, positions, pruned)
    given = {"inputs_embeds": embeds, "attention_mask": packed.mask}
    return given if model.rope_rows else given | {"position_ids": positions}


def _parts(model, stock, pair, method: str, settings: Settings) -> dict[str, Any]:
    """What is measured outside of an answer: the vision tower, the selection, the tokens and the cache."""
    images = visual_arguments(model, pair)
    visual = {name: value for name, value in pair.items() if name not in ("input_ids", "attention_mask")}
    tokens, prompts = model.visual_and_prompt_tokens(pair["input_ids"], pair["attention_mask"], **visual)
    pruner = settings.pruner(method)
    with torch.no_grad():
        encode = [seconds(lambda: stock.get_image_features(**images), model.device) for _ in range(ROUNDS)]
        selects = method not in ("original", "limit")
        select = [seconds(lambda: pruner(tokens, prompts), model.device) for _ in range(10 * selects)]
        if method == "limit":
            given = packed_prompt(model, pair, pruner)
            cache = stock(**given, use_cache=True).past_key_values
        else:
            cache = model(**pair, visual_token_pruner=pruner, use_cache=True, logits_to_keep=1).past_key_values
    return {
        "vision": _spread(encode),
        "selection": _spread(select) if selects else None,
        "visual_tokens": sum(map(len, tokens)),
        "kept": sum(pruner.budget(len(v)) for v in tokens),
        "cache_bytes": cache_bytes(cache),
    }


def cache_bytes(cache) -> int:
    """Bytes of the keys and values in a cache."""
    return sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)


def _spread(values: Iterable[float]) -> dict[str, Any]:
    low, middle, high = statistics.quantiles([1e3 * v for v in values], n=4, method="inclusive")
    return {"median": round(middle, 3), "quartiles": [round(low, 3), round(high, 3)]}
