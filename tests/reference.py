"""The selections in plain float64 Python, written from the papers' formulas and nothing else."""

import torch

from hf_zspa import DppPruner, MmtokPruner


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


def quality(visual, prompt, weight: float, pooling: str) -> torch.Tensor | None:
    """How much each token counts `(n,)`; None where there is nothing to weigh."""
    if not weight or not len(prompt):
        return None
    scores = relevance(visual, prompt, pooling)
    low, high = scores.min(), scores.max()
    if high - low < 1e-6:
        return None
    scaled = (scores - low) / (high - low)
    return 1 - abs(weight) + abs(weight) * (scaled if weight > 0 else 1 - scaled)


def off_centre(visual: torch.Tensor) -> torch.Tensor:
    """Tokens less their mean; what is left of less than 1e-6 of their length is nothing."""
    visual = visual.double()
    rest = visual - visual.mean(0)
    rest[rest.norm(dim=1) < 1e-6 * visual.norm(dim=1)] = 0
    return rest


def volume_gain(directions: torch.Tensor, quality: torch.Tensor, selected: list[int]) -> torch.Tensor:
    """What the determinant of `diag(q) C diag(q)` is multiplied by for each token more: the square of what is left of
    it outside the span of those selected."""
    rest = directions
    if selected:
        basis = torch.linalg.svd(directions[selected], full_matrices=False)
        span = basis.Vh[1e-7 * basis.S[0].clamp_min(1e-300) < basis.S]
        rest = directions - directions @ span.T @ span
    return quality.square() * rest.square().sum(1)


def coverage_gain(of_text, of_image, alpha: float, selected: list[int]) -> torch.Tensor:
    """What each token adds to the coverage by those selected."""
    gain = 0
    for weight, share in ((1.0, of_text), (alpha, of_image)):
        if len(share):
            covered = share[:, selected].max(dim=1, keepdim=True).values if selected else torch.zeros(len(share), 1)
            gain = gain + weight * (share - covered).clamp_min(0).mean(0)
    return gain


def assert_each_choice_is_the_best(visual, prompt, pruner, tie: float = TIE):
    """Every token that a pruner of a method adds is, by the float64 value of each token left, the best but for float32
    rounding: that of cosines, and what the range of relevance makes of it."""
    (order,) = pruner.in_order([visual], [prompt])
    order = order.tolist()
    compared = off_centre(visual) if pruner.centre else visual
    directions = torch.nn.functional.normalize(compared.double(), dim=1, eps=torch.finfo(torch.float64).tiny)
    similarity = cosine(compared, compared)
    if isinstance(pruner, MmtokPruner):
        texts = cosine(prompt, visual) if len(prompt) else torch.zeros(0, len(visual), dtype=torch.float64)
        if len(prompt) and texts.max(0).values.max() - texts.max(0).values.min() < 1e-6:
            texts = texts[:0]
        of_text, of_image = (texts / pruner.tau_text).softmax(1), (similarity / pruner.tau_vision).softmax(1)
    else:
        own = quality(visual, prompt, pruner.relevance_weight, pruner.pooling)
        if own is not None:
            scores = relevance(visual, prompt, pruner.pooling)
            tie = tie + 1e-6 * abs(pruner.relevance_weight) / float(scores.max() - scores.min())
    for step, token in enumerate(order):
        selected = order[:step]
        if isinstance(pruner, MmtokPruner):
            value = coverage_gain(of_text, of_image, pruner.alpha, selected)
        elif isinstance(pruner, DppPruner):
            weights = torch.ones(len(visual), dtype=torch.float64) if own is None else own
            value = volume_gain(directions, weights, selected)
            free = [i for i in range(len(visual)) if i not in selected]
            if value[free].max() <= tie:  # nothing is left but rounding
                continue
        elif own is None:
            value = -redundancy(similarity, selected)
        elif not selected:
            value = own.clone()
        else:
            value = own * (1 - similarity[:, selected].max(1).values)
        value = value.clone()
        value[selected] = -torch.inf
        assert value[token] >= value.max() - tie, f"step {step}: {token} has {value[token]}, the best {value.max()}"


def assert_pairs_are_the_best(tokens, gone, into, most: int, tie: float = TIE):
    """ToMe's matching: every other token, with the most similar of the rest; the most similar pairs are merged."""
    similarity = cosine(tokens[::2], tokens[1::2])
    best = similarity.max(1).values
    assert len(gone) == len(into) == min(most, len(tokens) // 2) and len(set(gone.tolist())) == len(gone)
    assert (gone % 2 == 0).all() and (into % 2 == 1).all()
    found = similarity[gone // 2, into // 2]
    assert (found >= best[gone // 2] - tie).all() and (found.diff() <= tie).all()
    stay = torch.ones(len(best), dtype=torch.bool).index_fill(0, gone // 2, False)
    assert not stay.any() or not len(found) or found.min() >= best[stay].max() - tie


def components(neighbour: list[int]) -> list[set[int]]:
    """What is linked to what, by whatever way."""
    groups = [{i} for i in range(len(neighbour))]
    for link in enumerate(neighbour):
        joined = set().union(*(group for group in groups if group & {*link}))
        groups = [group for group in groups if not group & joined] + [joined]
    return groups
