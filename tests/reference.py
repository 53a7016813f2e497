"""The selection of design section 2 in plain float64 Python, written from the paper's equations and nothing else."""

import torch


def round_half_up(numerator: int, percent: int) -> int:
    """`numerator · percent / 100` rounded to the nearest integer, halves up, in integers."""
    return (2 * numerator * percent + 100) // 200


def cosine(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Cosines `(n, m)` between the rows of `(n, d)` and `(m, d)` in float64; a zero row has 0 to everything."""

    def unit(x):
        x = x.double()
        norm = x.norm(dim=-1, keepdim=True)
        return torch.where(norm > 0, x / norm.clamp_min(torch.finfo(torch.float64).tiny), 0.0)

    # Summed one by one: a matrix product may round equal rows differently, depending on where they stand.
    return (unit(a)[:, None] * unit(b)[None]).sum(-1)


def relevance(visual: torch.Tensor, prompt: torch.Tensor, pooling: str) -> torch.Tensor:
    prompt = prompt.double()
    if pooling == "none":
        return cosine(visual, prompt).max(dim=1).values
    pooled = prompt.mean(0) if pooling == "mean" else prompt.max(dim=0).values
    return cosine(visual, pooled[None])[:, 0]


def redundancy(similarity: torch.Tensor, selected: list[int]) -> torch.Tensor:
    """What the next diversity token minimises, `(n,)`; infinite on what is selected."""
    if selected:
        score = similarity[:, selected].max(dim=1).values.clone()
    else:
        score = (similarity - torch.diag(torch.full((len(similarity),), torch.inf))).max(dim=1).values
    score[selected] = torch.inf
    return score


def select(visual, prompt, budget: int, core: int, pooling: str = "mean") -> list[int]:
    """Ascending indices of the `budget` tokens kept, `core` of them by relevance."""
    selected: list[int] = []
    if core and len(prompt):
        selected = relevance(visual, prompt, pooling).sort(descending=True, stable=True).indices[:core].tolist()
    similarity = cosine(visual, visual)
    while len(selected) < budget:
        selected.append(int(redundancy(similarity, selected).argmin()))
    return sorted(selected)


TIE = 1e-5  # cosines closer than this may be ordered either way in float32


def assert_greedy(visual, prompt, pruner):
    """Every choice of the pruner is the best one there was, by the float64 scores, up to float32 rounding."""
    ((core, diversity),) = pruner.split([visual], [prompt])
    n, k = len(visual), len(core)
    assert k == (pruner.core(n) if len(prompt) else 0)
    assert len(core) + len(diversity) == pruner.budget(n)
    if k:
        scores = relevance(visual, prompt, pruner.pooling)
        rest = torch.ones(n, dtype=torch.bool).index_fill(0, core, False)
        assert (scores[core].diff() <= TIE).all()
        assert not rest.any() or scores[core].min() >= scores[rest].max() - TIE
    similarity, selected = cosine(visual, visual), core.tolist()
    for token in diversity.tolist():
        score = redundancy(similarity, selected)
        assert token not in selected
        assert score[token] <= score.min() + TIE
        selected.append(token)
