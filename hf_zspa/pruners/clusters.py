"""Clusters of visual tokens, those nearest the prompt kept."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from ..remote_code.zspa_selection import relevance
from .one_by_one import OneByOne


@dataclass(frozen=True)
class ParPruner(OneByOne):
    """Clusters of a graph of visual tokens, those nearest the prompt kept, after PAR (Liu et al., 2024) as the paper of
    ZSPAPrune has it.

    A token is linked to the one most similar to it, and what is linked is a cluster. Whole clusters are kept in the
    order of the cosine of their mean to the prompt's; of the last one the most relevant tokens. It is written from that
    description, not from PAR's own text or code: graph, clusters and retrieval may differ from its authors' in detail.
    Here nothing is set, and the budget decides. Without a prompt the largest clusters come first.
    """

    def choose(self, visual: Tensor, prompt: Tensor, budget: int) -> Tensor:
        visual, prompt = visual.float(), prompt.float()
        cluster = clusters(visual)
        sizes = cluster.bincount()
        if len(prompt):
            means = torch.zeros(len(sizes), visual.shape[1], dtype=torch.float32, device=visual.device)
            means = means.index_add_(0, cluster, visual) / sizes[:, None]
            near, own = relevance(means, prompt), relevance(visual, prompt)
        else:
            near, own = sizes.float(), torch.zeros(len(visual), dtype=torch.float32, device=visual.device)
        place = near.sort(descending=True, stable=True).indices.argsort()
        within = own.sort(descending=True, stable=True).indices
        return within[place[cluster[within]].sort(stable=True).indices][:budget]


def clusters(visual: Tensor) -> Tensor:
    """For each token of `(n, d)` the number of its cluster `(n,)`, from 0: a component of the graph that links each
    token to the most similar other one."""
    unit = normalize(visual, dim=1)
    similar = (unit @ unit.T).fill_diagonal_(-torch.inf)
    neighbour, label = similar.argmax(1), torch.arange(len(visual), device=visual.device)
    while True:
        lower = torch.minimum(label, label[neighbour])
        lower = lower.scatter_reduce(0, neighbour, lower, "amin")
        if torch.equal(lower, label):
            return label.unique(return_inverse=True)[1]
        label = lower
