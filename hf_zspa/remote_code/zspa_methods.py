"""The other methods of selection that travel in a checkpoint, and all of them by name."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .zspa_checks import settings_of
from .zspa_config import check_given, check_read
from .zspa_greedy import Greedy, quality_of
from .zspa_kernels import select_on_gpu
from .zspa_selection import METHODS, Pruner, VisualTokenPruner


@dataclass(frozen=True)
class WeightedPruner(Pruner, method="weighted"):
    """The two steps of ZSPAPrune as one product: the token of largest quality first, then always the one with the
    largest quality times dissimilarity to all kept so far.

    A token's quality is `1 - |w| + |w| · r`, with w the weight and r its relevance to the prompt, scaled to [0, 1] by
    the image's smallest and largest value; for w below 0 with `1 - r` in its place. Where there is nothing to weigh,
    because w is 0, there is no prompt or all tokens are as relevant, this is DivPrune.

    Args:
        keep_ratio: share of each image's tokens kept, in (0, 1]; the budget is `l = max(1, round(keep_ratio · n))`.
        relevance_weight: how much relevance counts, in [-1, 1]; 0 is diversity alone, below 0 what is unlike the prompt
            is favoured.
        pooling: how prompt tokens are aggregated: "mean", "max" or "none", each token's best cosine over them.
        centre: whether an image's mean token is taken off before similarities among its tokens, not those to the
            prompt.

    Raises:
        ValueError: a parameter is outside its range.
    """

    relevance_weight: float = 0.75
    pooling: str = "mean"
    centre: bool = False

    def select(self, image: Greedy, prompt: Tensor, budget: int) -> Tensor:
        if not (len(prompt) and self.relevance_weight):
            return image.by_diversity(image.most_isolated()[None], budget)
        quality, flat = quality_of(image.relevance(prompt, self.pooling), self.relevance_weight)
        return image.by_weighted_diversity(quality, flat, budget)

    def select_together(self, visual_tokens, prompts, budgets):
        weight = self.relevance_weight
        return select_on_gpu(visual_tokens, prompts, budgets, self.pooling, self.centre, weight=weight)


@dataclass(frozen=True)
class DppPruner(WeightedPruner, method="dpp"):
    """A determinantal point process conditioned on the prompt: greedily the tokens of the largest determinant of
    `diag(q) C diag(q)`, with C the cosines among visual tokens and q as in `WeightedPruner`.

    At weight 1 it is the formula of CDPruner (Zhang et al., 2025). CDPruner takes relevance from CLIP's text tower
    where the model has one; here it is the cosine to the prompt's embeddings in the language model, for every family.
    Arguments and errors are those of `WeightedPruner`.
    """

    def select(self, image: Greedy, prompt: Tensor, budget: int) -> Tensor:
        quality = torch.ones_like(image.scale)
        if len(prompt) and self.relevance_weight:
            quality, _ = quality_of(image.relevance(prompt, self.pooling), self.relevance_weight)
        return image.by_determinant(quality, budget)

    def select_together(self, visual_tokens, prompts, budgets):
        weight = self.relevance_weight
        return select_on_gpu(visual_tokens, prompts, budgets, self.pooling, self.centre, weight=weight, volume=True)


@dataclass(frozen=True)
class MmtokPruner(Pruner, method="mmtok"):
    """Multimodal coverage, the formula of MMTok (Dong et al., 2025): the kept tokens cover the prompt and the image.

    In its authors' code the prompt's similarities are in the space of the language model, as here, and those among
    visual tokens in the space of the vision tower, CLIP's for LLaVA. Here these are in the space of the language model,
    too, for which `tau_vision` was not tuned. On LLaVA the authors also strip stop words and the sentence "Answer the
    question…" from the prompt; here it is taken as it stands. Without a prompt the image alone is covered. Memory is
    n × n, and where many tokens are equal a GPU is waited for.

    Args:
        keep_ratio: share of each image's tokens kept, in (0, 1]; the budget is `l = max(1, round(keep_ratio · n))`.
        alpha: weight of covering the image.
        tau_vision: temperature of the softmax for visual tokens.
        tau_text: temperature of the softmax for prompt tokens; the authors have 0.01 for Qwen2.5-VL.
        centre: whether an image's mean token is taken off before similarities among its tokens, not those to the
            prompt.

    Raises:
        ValueError: a parameter is outside its range.
    """

    alpha: float = 0.5
    tau_vision: float = 0.2
    tau_text: float = 0.02
    centre: bool = False

    def select(self, image: Greedy, prompt: Tensor, budget: int) -> Tensor:
        return image.by_coverage(prompt, budget, self.alpha, self.tau_vision, self.tau_text)


def select_tokens(
    visual: Tensor, prompt: Tensor, *, keep_ratio: float, method: str = "zspa", **settings: Any
) -> Tensor:
    """The visual tokens of one image that a method keeps.

    Args:
        visual: `(n, d)` projected visual tokens, any floating dtype; similarities are computed in float32.
        prompt: `(m, d)` prompt token embeddings; with `m = 0` the selection is by diversity alone.
        keep_ratio: share kept, in (0, 1].
        method: "zspa", "weighted", "dpp" or "mmtok".
        settings: `core_ratio`, `relevance_weight`, `pooling` or `centre`, as the method's pruner takes them:
            `ZspaPruner`, `WeightedPruner`, `DppPruner`, `MmtokPruner`.

    Returns:
        Ascending indices of the kept tokens, `(max(1, round(keep_ratio · n)),)`, int64.

    Raises:
        ValueError: a setting outside its range, or one that the method does not read; tensors of the wrong shape.
    """
    check_read(method, settings)
    return METHODS[method](keep_ratio, **settings)([visual], [prompt])[0]


def pruner_from_config(config, **given: Any) -> VisualTokenPruner | None:
    """The pruner that `config` describes; None for keep ratio 1.

    Args:
        given: settings of one call in place of the config's own, any of `CALL_SETTINGS`; None is none.

    Raises:
        ValueError: a setting is outside its range, or given though the method does not read it.
    """
    method, given = check_given(given, config.zspa_method)
    values = {name: given.get(f"zspa_{name}", getattr(config, f"zspa_{name}", None)) for name in settings_of(method)}
    if "tau_text" in values:
        values["tau_text"] = getattr(config, "mmtok_tau_text", None)
    if values["keep_ratio"] == 1:
        return None
    return METHODS[method](**{name: value for name, value in values.items() if value is not None})
