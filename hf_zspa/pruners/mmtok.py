"""Multimodal coverage, the formula of MMTok."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..remote_code.zspa_similarity import unit_vectors
from .one_by_one import OneByOne, first_equal


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
        first = first_equal(visual)
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
