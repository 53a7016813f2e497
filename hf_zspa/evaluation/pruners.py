"""Other selections, so that everybody can compare on the same work. None of them travels in a checkpoint.

Each is a `VisualTokenPruner`, written from the formulas of its paper. `n` visual tokens, `m` prompt tokens, `d` hidden
size, `l` budget. Similarities are cosines in float32; of equal tokens the one of the lowest index comes first.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..remote_code.zspa_selection import VisualTokenPruner, check_ratio, round_half_up
from ..remote_code.zspa_similarity import unit_vectors


@dataclass(frozen=True)
class OneByOne:
    """A pruner that treats each image by itself: a method is `choose` for one image.

    Args:
        keep_ratio: share of each image's tokens kept, in (0, 1].

    Raises:
        ValueError: the ratio is outside its range.
    """

    keep_ratio: float = 0.1

    def __post_init__(self):
        check_ratio("keep_ratio", self.keep_ratio, zero_allowed=False)

    def budget(self, n: int) -> int:
        return max(1, round_half_up(self.keep_ratio * n))

    @torch.no_grad()
    def __call__(self, visual_tokens: list[Tensor], prompt_tokens: list[Tensor]) -> list[Tensor]:
        return [self.choose(v, p, self.budget(len(v))).sort().values for v, p in zip(visual_tokens, prompt_tokens)]

    def choose(self, visual: Tensor, prompt: Tensor, budget: int) -> Tensor:
        """Indices `(budget,)` of the tokens of `visual` `(n, d)` to keep for `prompt` `(m, d)`, in any order."""
        raise NotImplementedError


@dataclass(frozen=True)
class RandomPruner(OneByOne):
    """Keeps a random subset of each image, the same one in any batch, order and on any device.

    It is drawn from `seed`, the number of tokens and the image's name. Many questions have the same words, and were
    they all given the same subset, an interval over questions would be too narrow. Images without names are told apart
    by their prompts.

    Args:
        seed: what all draws start from.
        images: a name for each image of a call, as `naming` gives it.
    """

    seed: int = 0
    images: tuple[str, ...] = ()

    def __call__(self, visual_tokens: list[Tensor], prompt_tokens: list[Tensor]) -> list[Tensor]:
        if not self.images:
            return super().__call__(visual_tokens, prompt_tokens)
        named = zip(visual_tokens, self.images, strict=True)
        return [self._draw(v, self.budget(len(v)), name.encode()).sort().values for v, name in named]

    def choose(self, visual: Tensor, prompt: Tensor, budget: int) -> Tensor:
        return self._draw(visual, budget, prompt.cpu().float().numpy().tobytes())

    def _draw(self, visual: Tensor, budget: int, name: bytes) -> Tensor:
        digest = hashlib.sha256(f"{self.seed} {len(visual)} ".encode() + name)
        generator = torch.Generator().manual_seed(int.from_bytes(digest.digest()[:8], "big") >> 1)
        return torch.randperm(len(visual), generator=generator)[:budget].to(visual.device)


def naming(pruner: VisualTokenPruner, images: Sequence[str]) -> VisualTokenPruner:
    """The pruner for a call with these images: "random" draws from their names, the others choose by what they see."""
    return replace(pruner, images=tuple(images)) if isinstance(pruner, RandomPruner) else pruner


@dataclass(frozen=True)
class ConditionalDppPruner(OneByOne):
    """A determinantal point process conditioned on the prompt, the formula of CDPruner (Zhang et al., 2025).

    The kernel is `diag(r) L diag(r)` with `L` the cosines among visual tokens and `r` each token's relevance to the
    prompt, scaled to [0, 1] by its smallest and largest value. The subset of largest determinant is sought greedily,
    with the incremental Cholesky factor of Chen et al. (2018), "Fast greedy MAP inference for determinantal point
    process", algorithm 1.

    CDPruner takes relevance from CLIP's text tower where the model has one, on LLaVA with its sign turned round, as
    CLIP's patches match the text least where the object is. Here it is the cosine to the mean prompt embedding of the
    language model, for every family; hence the name. Without a prompt the relevance is 1 everywhere.
    """

    def choose(self, visual: Tensor, prompt: Tensor, budget: int) -> Tensor:
        visual = unit_vectors(visual)
        quality = _relevance_in_unit_range(visual, prompt)
        gain = (quality * visual.norm(dim=1)).square()  # what the determinant would be multiplied by
        first = _first_equal(visual)
        factor = visual.new_zeros(budget, len(visual))
        chosen = torch.empty(budget, dtype=torch.long, device=visual.device)
        free = torch.ones(len(visual), dtype=torch.bool, device=visual.device)
        for step in range(budget):
            # Once the kernel has no rank left, the gains are rounding noise: then the most relevant ones follow.
            spent = gain.where(free, -1).amax() <= _NO_RANK
            pick = torch.where(spent, quality, gain)[first].where(free, -torch.inf).argmax()
            chosen[step] = pick
            row = quality[pick] * (visual @ visual[pick]) * quality - factor[:step, pick] @ factor[:step]
            factor[step] = row / gain[pick].clamp_min(_NO_RANK).sqrt() * ~spent
            gain = gain - factor[step].square()
            free[pick] = False
        return chosen


_NO_RANK = 1e-6


def _first_equal(tokens: Tensor) -> Tensor:
    """For each of `(n, d)` the index of the first token equal to it, `(n,)`.

    A product of matrices rounds equal columns differently. What is looked up for the first of them is equal for all, so
    that `argmax` takes the first.
    """
    group = tokens.unique(dim=0, return_inverse=True)[1]
    places = torch.arange(len(tokens), device=tokens.device)
    return torch.full_like(places, len(tokens)).scatter_reduce(0, group, places, "amin")[group]


def _relevance_in_unit_range(visual: Tensor, prompt: Tensor) -> Tensor:
    """Cosine of each of `(n, d)` unit vectors to the mean of `prompt` `(m, d)`, scaled to [0, 1]; all 1 if constant."""
    if not len(prompt):
        return visual.new_ones(len(visual))
    relevance = (visual * unit_vectors(prompt.float().mean(0))).sum(1)
    low, high = relevance.amin(), relevance.amax()
    return torch.where(high > low, (relevance - low) / (high - low).clamp_min(_NO_RANK), 1.0)


@dataclass(frozen=True)
class MmtokPruner(OneByOne):
    """Multimodal coverage, the formula of MMTok (Dong et al., 2025): the kept tokens cover the prompt and the image.

    `S` maximises `mean_t max_{s in S} A[t, s] + alpha · mean_v max_{s in S} B[v, s]`, where `A` is a softmax over the
    visual tokens of the cosines of prompt token t, at temperature `tau_text`, and `B` the same of visual token v, at
    `tau_vision`. The objective is submodular and maximised greedily. Memory is n × n.

    In its authors' code the prompt's similarities are in the space of the language model, as here, with `tau_text` 0.02
    for LLaVA and 0.01 for Qwen2.5-VL, and those among visual tokens in the space of the vision tower, CLIP's for LLaVA.
    Here these are in the space of the language model, too, for which `tau_vision` was not tuned. On LLaVA the authors
    also strip stop words and the sentence "Answer the question…" from the prompt; here it is taken as it stands.
    Without a prompt the image alone is covered.

    Args:
        alpha: weight of covering the image.
        tau_text: temperature of the softmax for prompt tokens.
        tau_vision: temperature of the softmax for visual tokens.
    """

    alpha: float = 0.5
    tau_text: float = 0.02
    tau_vision: float = 0.2

    def choose(self, visual: Tensor, prompt: Tensor, budget: int) -> Tensor:
        visual = unit_vectors(visual)
        parts = [self.alpha / len(visual) * torch.softmax(visual @ visual.T / self.tau_vision, dim=1)]
        if len(prompt):
            parts.append(torch.softmax(unit_vectors(prompt) @ visual.T / self.tau_text, dim=1) / len(prompt))
        coverage = torch.cat(parts)  # what candidate s gives each target: (targets, n)
        first = _first_equal(visual)
        covered = coverage.new_zeros(len(coverage), 1)
        chosen = torch.empty(budget, dtype=torch.long, device=visual.device)
        taken = torch.zeros(len(visual), dtype=torch.bool, device=visual.device)
        for step in range(budget):
            gain = (coverage - covered).clamp_min(0).sum(0)[first].masked_fill(taken, -torch.inf)
            pick = gain.argmax()
            chosen[step] = pick
            covered = torch.maximum(covered, coverage[:, pick, None])
            taken[pick] = True
        return chosen
