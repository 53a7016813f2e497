"""Times and sizes of answers, method against method in one run: interleaved, warm, medians with quartiles."""

import copy
import inspect
import statistics
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import torch
from transformers import StoppingCriteriaList

from ..evaluation.resizing import pooled
from ..loading import FirstTokenClock
from ..pruners import registry
from ..remote_code.zspa_compat import cache_of
from ..remote_code.zspa_selection import VisualTokenPruner
from .clock import peak_memory, seconds
from .machine import machine
from .summary import in_turn, paired_ratio, spread

PUBLISHED = registry.PUBLISHED_DIVPRUNE.name
METHODS = ("original", "zspa", "relevance", "divprune", PUBLISHED, "limit")
EVERY_METHOD = tuple(dict.fromkeys([*METHODS, *registry.METHODS]))  # with those that are measured only if named
UNPRUNED = ("original", "limit")  # methods that select nothing
BASELINES = ("limit", PUBLISHED, "original")  # what the others are compared with
SAMPLES = 3  # questions whose memory is measured, as in the paper's Table 3


@dataclass(frozen=True)
class Settings:
    """What every method is measured with.

    Attributes:
        new_tokens: tokens generated, always all of them.
    """

    keep_ratio: float = 0.1
    core_ratio: float = 0.2
    pooling: str = "mean"
    new_tokens: int = 16

    def pruner(self, method: str, config: Any) -> VisualTokenPruner:
        """The pruner of a method for a model with this config; "limit" is given what that of "zspa" keeps, and
        "original" has none."""
        if method == "resized":
            return pooled(config, self.keep_ratio)
        known = registry.METHODS | {PUBLISHED: registry.PUBLISHED_DIVPRUNE, "limit": registry.METHODS["zspa"]}
        return known[method].make(self.keep_ratio, core_ratio=self.core_ratio, pooling=self.pooling)

    def asked_of_generate(self, method: str, config: Any) -> dict[str, Any]:
        """The arguments of `generate` that choose a method."""
        if method == "original" or self.keep_ratio == 1:
            return {"zspa_keep_ratio": 1.0}
        return {"visual_token_pruner": self.pruner(method, config)}

    def kept(self, method: str, sizes: Iterable[int], config: Any) -> int:
        """How many tokens a method keeps of images of these sizes."""
        if method == "original" or self.keep_ratio == 1:
            return sum(sizes)
        return sum(map(self.pruner(method, config).budget, sizes))


@dataclass(frozen=True)
class Given:
    """What the methods are given of a question.

    Attributes:
        inputs: what the processor makes of it.
        packed: the inputs of "limit"; empty where it is not measured.
        resized: what the processor makes of it with the image scaled, for "resized"; empty where features are averaged.
    """

    inputs: dict[str, Any]
    packed: dict[str, Any] = field(default_factory=dict)
    resized: dict[str, Any] = field(default_factory=dict)

    def scales(self, method: str) -> bool:
        """Whether the method is given a smaller image."""
        return method == "resized" and bool(self.resized)

    def selects(self, method: str) -> bool:
        return method not in UNPRUNED and not self.scales(method)


class InterleavedBenchmark:
    """All methods answer the same questions, one after the other in an order drawn anew for each: a method is slower
    after one that leaves much memory to be given back.

    The method "limit" is what pruning would cost if choosing cost nothing: the stock model encodes the image, and then
    answers given the embeddings, the mask and the positions that "zspa" would have made. "resized" is the unpruned
    model with the image at no more tokens, or, where it is given none so small, with averages of the image's features.

    Args:
        model: a pruning model.
        advance: called after each answer.
    """

    def __init__(
        self, model, settings: Settings, methods: Iterable[str] = METHODS, advance: Callable[[], None] = lambda: None
    ):
        self.model, self.settings, self.methods, self.advance = model, settings, tuple(methods), advance
        self.stock = stock_view(model)
        self.asked: list[int] = []  # which question each round was about
        self.vision: list[float] = []
        self.vision_resized: list[float] = []
        self.selection: dict[str, list[float]] = {method: [] for method in self.methods}
        self.answers: dict[str, list[tuple[float, float]]] = {method: [] for method in self.methods}
        self.sizes: dict[str, list[dict[str, Any]]] = {method: [] for method in self.methods}
        self._warm: set[tuple[int, ...]] = set()

    @property
    def rounds(self) -> int:
        return len(self.asked)

    @torch.no_grad()
    def run(self, inputs: dict[str, Any], question: int = 0, resized: dict[str, Any] | None = None) -> None:
        """Answers one question by every method.

        Args:
            inputs: what the processor makes of it, on the model's device.
            question: its number; the first questions have their memory measured when they are new.
            resized: what the processor makes of it with the image scaled, for "resized".
        """
        tokens, prompts = self.model.visual_and_prompt_tokens(**inputs)
        packed, config = {}, self.model.config
        if "limit" in self.methods:
            packed = packed_prompt(self.model, inputs, self.settings.pruner("limit", config))
        given, sizes = Given(inputs, packed, resized or {}), tuple(map(len, tokens))
        if sizes not in self._warm:  # a GPU may compile or choose what it runs for each size
            self._warm.add(sizes)
            for method in self.methods:
                self._answer(method, given)
                if given.selects(method):
                    self.settings.pruner(method, config)(tokens, prompts)
        if question not in self.asked and len(self.sizes[self.methods[0]]) < SAMPLES:
            for method in self.methods:
                self.sizes[method].append(self._size(method, given, sizes))
        vision = seconds(lambda: self._encode(inputs), self.model.device)
        of_resized = seconds(lambda: self._encode(resized), self.model.device) if resized else vision
        selection, answers = {}, {}
        for method in in_turn(self.methods, self.rounds):
            if given.selects(method):
                select = partial(self.settings.pruner(method, config), tokens, prompts)
                selection[method] = seconds(select, self.model.device)
            answers[method] = self._answer(method, given)[0]
            self.advance()
        self._add(question, (vision, of_resized), selection, answers)

    def _add(
        self,
        question: int,
        vision: tuple[float, float],
        selection: dict[str, float],
        answers: dict[str, tuple[float, float]],
    ) -> None:
        """Counts a round, which is whole: what fails in one leaves no method with more times than another."""
        self.asked.append(question)
        self.vision.append(vision[0])
        self.vision_resized.append(vision[1])
        for method, answer in answers.items():
            self.answers[method].append(answer)
            self.selection[method] += [selection[method]] if method in selection else []

    def results(self, name: str, weights: str, prompt: Any) -> dict[str, Any]:
        """The rows and what they were measured with: the model, "random" or "checkpoint", and what was asked."""
        return {
            "model": name,
            "weights": weights,
            "prompt": prompt,
            "questions": len(set(self.asked)),
            **machine(self.model.device),
            "dtype": str(self.model.dtype).removeprefix("torch."),
            "attention": self.model.config.get_text_config()._attn_implementation,
            "settings": asdict(self.settings),
            "rows": self.rows(),
        }

    def rows(self) -> list[dict[str, Any]]:
        """A row per method. Times are milliseconds, `{"median": …, "mean": …, "quartiles": [low, high]}`; `average` is
        the mean time of an answer, every question counting once, however often it was asked. `to` has, per baseline, a
        method's times divided by those it took beside it, as `paired_ratio` has them. Memory is bytes: "tensors" what
        an answer holds at most, "total" the weights with that."""
        rows = []
        for method in self.methods:
            first, total = zip(*self.answers[method])
            steps = max(1, self.settings.new_tokens - 1)
            row = {
                "method": method,
                "answers": self.rounds,
                "vision": spread(self.vision_resized if method == "resized" else self.vision),
                "selection": spread(self.selection[method]) if self.selection[method] else None,
                "first_token": spread(first),
                "per_token": spread((t - f) / steps for f, t in self.answers[method]),
                "end_to_end": spread(total),
                "average": round(1e3 * self._mean_over_questions(total), 3),
                "to": {name: self._compared(method, name) for name in BASELINES if name in self.methods},
                "samples": self.sizes[method],
            }
            rows.append(row)
        return rows

    def _mean_over_questions(self, times: Iterable[float]) -> float:
        per_question: dict[int, list[float]] = {}
        for question, time in zip(self.asked, times):
            per_question.setdefault(question, []).append(time)
        return statistics.mean(map(statistics.mean, per_question.values()))

    def _compared(self, method: str, baseline: str) -> dict[str, Any]:
        (own_first, own_total), (first, total) = (zip(*self.answers[name]) for name in (method, baseline))
        return {"first_token": paired_ratio(own_first, first), "end_to_end": paired_ratio(own_total, total)}

    def _encode(self, inputs: dict[str, Any]) -> None:
        for modality, names in self.model.visual_inputs.items():
            given = {name: inputs[name] for name in names if inputs.get(name) is not None}
            if names[0] in given:
                getattr(self.stock, f"get_{modality}_features")(**given)

    def _answer(self, method: str, given: Given) -> tuple[tuple[float, float], Any]:
        """Seconds until the first and until the last token, and the cache that is left."""
        asked = {} if method == "limit" else self.settings.asked_of_generate(method, self.model.config)
        clock = FirstTokenClock(self.model.device)
        options = {
            "do_sample": False, "num_beams": 1, "pad_token_id": 0, "return_dict_in_generate": True,
            "min_new_tokens": self.settings.new_tokens, "max_new_tokens": self.settings.new_tokens,
            "stopping_criteria": StoppingCriteriaList([clock]),
        }  # fmt: skip
        if method == "limit":
            self._encode(given.inputs)
            output = self.stock.generate(**given.packed, **options)
        elif given.scales(method):
            output = self.model.generate(**given.resized, zspa_keep_ratio=1.0, **options)
        else:
            output = self.model.generate(**given.inputs, **asked, **options)
        return (clock.first_token, clock.now()), cache_of(output)

    def _size(self, method: str, given: Given, tokens: tuple[int, ...]) -> dict[str, Any]:
        found: list[int] = []

        def answer() -> None:
            found.append(cache_bytes(self._answer(method, given)[1]))

        memory = peak_memory(answer, self.model.device)
        memory["total"] = memory["tensors"] + self.model.get_memory_footprint()
        kept = self.settings.kept(method, tokens, self.model.config)
        if given.scales(method):
            kept = sum(map(len, self.model.visual_and_prompt_tokens(**given.resized)[0]))
        return {"visual_tokens": sum(tokens), "kept": kept, "cache_bytes": found[0], "peak_memory": memory}


def takes_embeddings(model) -> bool:
    """Whether the stock class generates from embeddings alone, as "limit" does: it may refuse them, or need to be told
    which tokens are an image's."""
    stock = stock_view(model)
    takes, needs = (inspect.signature(call).parameters for call in (stock.prepare_inputs_for_generation, stock.forward))
    return "inputs_embeds" in takes and "token_type_ids" not in needs


def stock_view(model):
    """The same weights as a model of the stock class, which knows nothing of pruning."""
    stock, base = copy.copy(model), copy.copy(model.model)
    for module in (stock, base):
        module.__class__ = next(c for c in type(module).__mro__ if c.__module__.startswith("transformers.models."))
    stock._modules = stock._modules | {"model": base}
    return stock


@torch.no_grad()
def packed_prompt(model, inputs: dict[str, Any], pruner: VisualTokenPruner) -> dict[str, Any]:
    """The pruned prompt as inputs of the stock class: embeddings `(batch, P, d)`, mask `(batch, P)`, and positions
    where its `generate` takes any. (That of Qwen2.5-VL counts its own, of the few tokens it is given.)"""
    seen: dict[str, Any] = {}
    decoder = model.get_decoder()
    handle = decoder.register_forward_pre_hook(lambda _, args, kwargs: seen.update(kwargs), with_kwargs=True)
    try:
        model(**inputs, visual_token_pruner=pruner, logits_to_keep=1, use_cache=False)
    finally:
        handle.remove()
    given = {name: seen[name] for name in ("inputs_embeds", "attention_mask", "position_ids")}
    return {name: value for name, value in given.items() if name != "position_ids" or value.ndim == 2}


def cache_bytes(cache) -> int:
    """Bytes of the keys and values in a cache, and of the states of layers that have these instead."""
    names = ("keys", "values", "conv_states", "recurrent_states")
    held = [getattr(layer, name, None) for layer in cache.layers for name in names]
    tensors = [tensor for one in held for tensor in (one.values() if isinstance(one, dict) else [one])]
    return sum(tensor.nbytes for tensor in tensors if tensor is not None)
