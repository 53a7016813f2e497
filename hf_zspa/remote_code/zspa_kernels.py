"""The whole selection on a GPU in a few launches. Triton is optional: without it plain torch does the same.

    direction one program per image: its pooled prompt as a unit vector
    prepare   of every token its norm, and how relevant it is                reads the features once
    products  of all pairs of tokens, by torch                               reads them once more
    isolation of every token, for a selection that begins without a core
    select    one program per image: the core, then the greedy loop of diversity, weighed or not
    volume    one program per image: the greedy loop of the determinant

Nothing waits for the GPU in between, and the number of launches does not grow with that of the tokens.
"""

import warnings

import torch
from torch import Tensor

from .zspa_greedy import NO_RANK, quality_of
from .zspa_similarity import ROUNDING, Cosines, centred, images_together, products

try:
    import triton
    import triton.language as tl
except ImportError:
    triton = None

LONGEST = 1 << 14  # visual tokens of one image; the running maxima of half as many fit in the registers of a program
WIDEST = 1 << 13  # entries of a token that one program can hold
_TILE = 1 << 12  # entries that a program of many rows holds at once
usable = triton is not None  # until a kernel cannot run

if triton is not None:

    @triton.jit
    def _direction_kernel(pooled, direction, width, BLOCK: tl.constexpr):
        """The unit vector of a pooled prompt; zero for one that is zero or not finite."""
        entry = tl.arange(0, BLOCK)
        place = tl.program_id(0).to(tl.int64) * width + entry
        p = tl.load(pooled + place, mask=entry < width, other=0.0)
        largest = tl.max(tl.abs(p), axis=0)
        finite = tl.max(tl.where(tl.abs(p) < float("inf"), 0, 1), axis=0) == 0
        some = finite & (largest > 0)
        p = tl.where(some, p / tl.where(some, largest, 1.0), 0.0).to(tl.float32)
        tl.store(direction + place, p * _inverse(tl.sqrt_rn(tl.sum(p * p, axis=0))), mask=entry < width)

    @triton.jit(do_not_specialize=["count"])
    def _prepare_kernel(
        features, direction, tokens, scale, relevance, count, n, width,
        ROWS: tl.constexpr, BLOCK: tl.constexpr, RELEVANCE: tl.constexpr,
    ):  # fmt: skip
        """Scales tokens by powers of two, which loses only what no sum with their largest entry keeps, so that squares
        stay inside the range of float32; one that is not finite becomes zero. Then 1 / norm, and the cosine to the
        image's pooled prompt. `tokens` may be `features`: a program reads its rows before it writes them."""
        row = (tl.program_id(0) * ROWS + tl.arange(0, ROWS)).to(tl.int64)
        entry = tl.arange(0, BLOCK)[None, :]
        there = row < count
        place = row[:, None] * width + entry
        real = there[:, None] & (entry < width)
        x = tl.load(features + place, mask=real, other=0.0).to(tl.float32)
        exponent = tl.max(x.to(tl.int32, bitcast=True) & 0x7F800000, axis=1)  # the bits of the largest power of two
        power = tl.maximum(0x7F000000 - tl.maximum(exponent, 0x00800000), 0x00800000).to(tl.float32, bitcast=True)
        x = tl.where((exponent < 0x7F800000)[:, None], x * power[:, None], 0.0).to(tokens.dtype.element_ty)
        tl.store(tokens + place, x, mask=real)
        x = x.to(tl.float32)
        inverse = _inverse(tl.sqrt_rn(tl.sum(x * x, axis=1)))
        tl.store(scale + row, inverse, mask=there)
        if RELEVANCE:
            p = tl.load(direction + (row // n)[:, None] * width + entry, mask=real, other=0.0)
            tl.store(relevance + row, tl.sum(x * p, axis=1) * inverse, mask=there)

    @triton.jit
    def _inverse(norm):
        """1 / norm, and 0 for 0."""
        return tl.where(norm > 0, tl.div_rn(1.0, tl.where(norm > 0, norm, 1.0)), 0.0)

    @triton.jit(do_not_specialize=["count"])
    def _isolation_kernel(gram, scale, counts, isolation, count, n, ROWS: tl.constexpr, BLOCK: tl.constexpr):
        """How far the nearest neighbour of each token is: the largest cosine to any other, negated."""
        row = (tl.program_id(0) * ROWS + tl.arange(0, ROWS)).to(tl.int64)
        token = tl.arange(0, BLOCK)[None, :]
        there = row < count
        image = row // n
        size = tl.load(counts + image * 3, mask=there, other=0)
        others = (token < size[:, None]) & (token != (row % n)[:, None])
        cosine = tl.load(gram + row[:, None] * n + token, mask=others, other=0.0)
        cosine = cosine * tl.load(scale + row, mask=there, other=0.0)[:, None]
        cosine = cosine * tl.load(scale + image[:, None] * n + token, mask=others, other=0.0)
        nearest = tl.max(tl.where(others, cosine, float("-inf")), axis=1)
        tl.store(isolation + row, -nearest, mask=there)

    @triton.jit
    def _cosines(gram, scale, pick, token, real, n):
        """The cosine of every token to one."""
        row = tl.load(gram + pick * n + token, mask=real, other=0.0)
        return row * tl.load(scale + pick) * tl.load(scale + token, mask=real, other=0.0)

    @triton.jit
    def _added(gram, scale, quality, costs, pick, token, real, n, WEIGHED: tl.constexpr):
        """What every token costs once `pick` is selected too: its cosine to the closest selected one, weighed by its
        quality; infinite on those selected."""
        cost = _cosines(gram, scale, pick, token, real, n)
        if WEIGHED:
            own = tl.load(quality + token, mask=real, other=0.0)
            cost = cost * own + (1 - own)
        return tl.where(token == pick, float("inf"), tl.maximum(costs, cost))

    @triton.jit
    def _select_kernel(
        gram, scale, scores, quality, counts, order, n, rounding, BLOCK: tl.constexpr, WEIGHED: tl.constexpr
    ):  # fmt: skip
        """The core, by score, then greedily the token that costs least (eq. 6 to 9); of equal ones that of the lowest
        index. Without a core the best score is the first token. All costs are in registers."""
        image = tl.program_id(0).to(tl.int64)
        token = tl.arange(0, BLOCK)
        counts += image * 3
        real = token < tl.load(counts)
        core, budget = tl.load(counts + 1), tl.load(counts + 2)
        gram += image * n * n
        scale += image * n
        quality += image * n
        order += image * n
        scores += image * n
        costs = tl.where(real, float("-inf"), float("inf"))
        slack = tl.where(core > 0, 0.0, rounding)
        for step in range(tl.maximum(core, 1)):
            left = costs < float("inf")  # those not selected yet
            score = tl.load(scores + token, mask=left, other=float("-inf"))
            pick = tl.min(tl.where(score >= tl.max(score, axis=0) - slack, token, BLOCK), axis=0)
            tl.store(order + step, pick.to(tl.int64))
            costs = _added(gram, scale, quality, costs, pick, token, real, n, WEIGHED)
        for step in range(tl.maximum(core, 1), budget):
            pick = tl.min(tl.where(costs <= tl.min(costs, axis=0) + rounding, token, BLOCK), axis=0)
            tl.store(order + step, pick.to(tl.int64))
            costs = _added(gram, scale, quality, costs, pick, token, real, n, WEIGHED)

    @triton.jit
    def _volume_kernel(
        gram, scale, quality, counts, factor, order, n, longest, rounding, no_rank, BLOCK: tl.constexpr
    ):  # fmt: skip
        """Greedily the token that makes the determinant largest, by the rows of its Cholesky factor; once none does,
        that of largest quality. Of equal ones that of the lowest index."""
        image = tl.program_id(0).to(tl.int64)
        token = tl.arange(0, BLOCK)
        counts += image * 3
        real = token < tl.load(counts)
        budget = tl.load(counts + 2)
        gram += image * n * n
        scale += image * n
        quality += image * n
        factor += image * longest * n
        order += image * n
        own = tl.load(quality + token, mask=real, other=0.0)
        gain = tl.where(tl.load(scale + token, mask=real, other=0.0) > 0, own * own, 0.0)
        taken = token < 0
        for step in range(budget):
            left = real & (taken == 0)
            spent = tl.max(tl.where(left, gain, -1.0), axis=0) <= no_rank
            value = tl.where(left, tl.where(spent, own, gain), -1.0)
            least = tl.max(value, axis=0) - tl.where(spent, 0.0, rounding)
            pick = tl.min(tl.where(value >= least, token, BLOCK), axis=0)
            tl.store(order + step, pick.to(tl.int64))
            row = _cosines(gram, scale, pick, token, real, n) * own * tl.load(quality + pick)
            for before in range(step):
                at = factor + before * n
                row -= tl.load(at + token, mask=real, other=0.0) * tl.load(at + pick)
            pivot = tl.max(tl.where(token == pick, gain, 0.0), axis=0)
            row = tl.where(spent, 0.0, tl.div_rn(row, tl.sqrt_rn(tl.maximum(pivot, no_rank))))
            tl.store(factor + step * n + token, row, mask=real)
            tl.debug_barrier()  # the next steps read what other threads have stored
            gain -= row * row
            taken = taken | (token == pick)


def select_on_gpu(
    visual_tokens: list[Tensor],
    prompt_tokens: list[Tensor],
    budgets: list[int],
    pooling: str,
    centre: bool,
    *,
    cores: list[int] | None = None,
    weight: float = 0.0,
    volume: bool = False,
) -> list[Tensor] | None:
    """Selects for all images of a batch without waiting for the GPU.

    Args:
        visual_tokens: per image `(n_i, d)`.
        prompt_tokens: per image `(m_i, d)`.
        budgets: per image the tokens kept.
        cores: per image how many of them are chosen by relevance, for ZSPAPrune; None for the methods that weigh.
        weight: how much these weigh relevance.
        volume: the determinant is made largest, not the diversity.

    Returns:
        Per image the tokens `(budget,)` in the order they are selected; None where the kernels cannot run here, or an
        image is too large for them.
    """
    global usable
    n, width = max(map(len, visual_tokens)), visual_tokens[0].shape[1]
    together = images_together(n)
    if not usable or n > LONGEST or width > WIDEST or not together:
        return None
    if cores is None:  # whether anything is weighed
        cores = [int(len(prompt) > 0 and weight != 0) for prompt in prompt_tokens]
    else:
        weight = 0.0
    counts = [[len(visual), core, budget] for visual, core, budget in zip(visual_tokens, cores, budgets)]
    rows: list[Tensor] = []
    try:
        with torch.cuda.device_of(visual_tokens[0]):  # Triton launches on the current GPU, whichever its tensors are on
            for first in range(0, len(counts), together):
                some = slice(first, first + together)
                rows += _select(visual_tokens[some], prompt_tokens[some], counts[some], pooling, centre, weight, volume)
    except _CannotRun as error:
        usable = False
        warnings.warn(f"the selection runs in plain torch, because Triton failed: {error}", stacklevel=2)
        return None
    return [row[:budget] for row, budget in zip(rows, budgets)]


class _CannotRun(Exception):
    """Triton cannot run a kernel: there is no C compiler, or no driver that fits. A checkpoint must run there too."""


def _start(kernel, programs: int, *arguments, **options) -> None:
    try:
        kernel[(programs,)](*arguments, **options)
    except Exception as error:
        raise _CannotRun(str(error)) from error


def _select(
    visual_tokens: list[Tensor], prompts: list[Tensor], counts: list[list[int]], pooling: str, centre: bool,
    weight: float, volume: bool,
) -> Tensor:  # fmt: skip
    """`(images, n)` int64: rows begin with the tokens in the order they are selected. `counts` has the tokens, the core
    and the budget of each image."""
    cores = [core for _, core, _ in counts]
    by_kernel = pooling != "none" and any(cores) and not centre
    relevance = None
    if any(cores) and not by_kernel:
        pairs = zip(visual_tokens, prompts, cores)
        found = [Cosines(v).to_prompt(p, pooling) if core else v.new_zeros(len(v)).float() for v, p, core in pairs]
        relevance = torch.nn.utils.rnn.pad_sequence(found, True)
    if centre:
        visual_tokens = [centred(visual) for visual in visual_tokens]
    several = len(visual_tokens) > 1
    padded = torch.nn.utils.rnn.pad_sequence(visual_tokens, True) if several else visual_tokens[0][None]
    features = padded.contiguous()
    (images, n, width), device = features.shape, features.device
    on_device = torch.tensor(counts, dtype=torch.int32, device="cpu").to(device, non_blocking=True)
    scale, scores = (torch.empty(images, n, dtype=torch.float32, device=device) for _ in range(2))
    block, wide = max(16, triton.next_power_of_2(n)), triton.next_power_of_2(width)
    direction = torch.empty(images, width, dtype=torch.float32, device=device) if by_kernel else scale  # else unread
    if by_kernel:
        warps = max(4, wide // 1024)
        _start(_direction_kernel, images, _pooled(prompts, pooling), direction, width, BLOCK=wide, num_warps=warps)
    tokens, rows = features if several else torch.empty_like(features), max(1, _TILE // wide)  # padding made a copy
    _start(
        _prepare_kernel, triton.cdiv(images * n, rows),
        features, direction, tokens, scale, scores, images * n, n, width,
        ROWS=rows, BLOCK=wide, RELEVANCE=by_kernel, num_warps=max(4, wide // 1024),
    )  # fmt: skip
    gram = products(tokens, tokens)
    scores = scores if relevance is None else relevance
    quality = scale  # unread where nothing is weighed
    if weight:
        quality, flat = _quality(scores, on_device, weight)
        on_device[:, 1] = on_device[:, 1].where(~flat, 0)
        scores = quality
    elif volume:
        quality = torch.ones_like(scale)
    order = torch.empty(images, n, dtype=torch.long, device=device)
    warps = min(32, max(4, block // 512))
    if volume:
        longest = max(budget for _, _, budget in counts)
        factor = torch.empty(images, longest, n, dtype=torch.float32, device=device)
        _start(
            _volume_kernel, images, gram, scale, quality, on_device, factor, order, n, longest, ROUNDING, NO_RANK,
            BLOCK=block, num_warps=warps,
        )  # fmt: skip
        return order
    if weight or not all(cores):
        isolation, rows = torch.empty_like(scores), max(1, _TILE // block)
        _start(
            _isolation_kernel, triton.cdiv(images * n, rows), gram, scale, on_device, isolation, images * n, n,
            ROWS=rows, BLOCK=block, num_warps=max(4, block // 1024),
        )  # fmt: skip
        scores = scores.where(on_device[:, 1, None] > 0, isolation) if any(cores) else isolation
    _start(
        _select_kernel, images, gram, scale, scores, quality, on_device, order, n, ROUNDING,
        BLOCK=block, WEIGHED=weight != 0, num_warps=warps,
    )  # fmt: skip
    return order


def _quality(relevance: Tensor, counts: Tensor, weight: float) -> tuple[Tensor, Tensor]:
    """`quality_of` each image's tokens `(images, n)`; 1 where nothing is weighed, and on what pads the tokens."""
    real = torch.arange(relevance.shape[1], device=relevance.device) < counts[:, :1]
    one = relevance[:, :1]  # of the image: it changes neither its smallest nor its largest value
    quality, flat = quality_of(relevance.where(real, one), weight)
    return quality.where(real & (counts[:, 1:2] > 0), 1.0), flat


def _pooled(prompts: list[Tensor], pooling: str) -> Tensor:
    """The pooled prompts (eq. 4) `(images, d)`, float64, in which no sum leaves the range; zero where there is none."""
    found: list[Tensor] = []
    for number, prompt in enumerate(prompts):
        before = prompts[number - 1] if number else None
        if before is not None and prompt.data_ptr() == before.data_ptr() and prompt.shape == before.shape:
            found.append(found[-1])  # the images of a row have the same
        elif not len(prompt):
            found.append(torch.zeros(prompt.shape[1], dtype=torch.float64, device=prompt.device))
        else:
            found.append(prompt.mean(0, dtype=torch.float64) if pooling == "mean" else prompt.amax(0).double())
    return torch.stack(found) if len(found) > 1 else found[0][None]
