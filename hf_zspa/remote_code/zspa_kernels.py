"""The whole selection on a GPU in a few launches. Triton is optional: without it plain torch does the same.

    prepare   one program per token: its norm, and how relevant it is        reads the features once
    products  of all pairs of tokens, by torch                               reads them once more
    isolation one program per token, for a selection that begins without a core
    select    one program per image: the core, then the greedy loop

Nothing waits for the GPU in between, and nothing depends on how many tokens are kept.
"""

import warnings

import torch
from torch import Tensor

from .zspa_similarity import ROUNDING, all_pairs_fit, products, unit_vectors

try:
    import triton
    import triton.language as tl
except ImportError:
    triton = None

LONGEST = 1 << 14  # visual tokens of one image whose running maxima fit in the registers of one program
WIDEST = 1 << 13  # entries of a token that one program can hold
_TILE = 1 << 12  # entries that a program of many rows holds at once
_usable = triton is not None

if triton is not None:

    @triton.jit
    def _prepare_kernel(
        features, pooled, tokens, scale, relevance, images, n, width,
        ROWS: tl.constexpr, BLOCK: tl.constexpr, RELEVANCE: tl.constexpr,
    ):  # fmt: skip
        """Scales tokens by powers of two, which is exact, so that squares stay inside the range of float32; one that is
        not finite becomes zero. Then 1 / norm, and the cosine to the image's pooled prompt."""
        row = (tl.program_id(0) * ROWS + tl.arange(0, ROWS)).to(tl.int64)
        entry = tl.arange(0, BLOCK)[None, :]
        there = row < images * n
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
            p = tl.load(pooled + (row // n)[:, None] * width + entry, mask=real, other=0.0)
            largest = tl.max(tl.abs(p), axis=1)
            finite = tl.max(tl.where(tl.abs(p) < float("inf"), 0, 1), axis=1) == 0
            p = (p / tl.where(finite & (largest > 0), largest, float("inf"))[:, None]).to(tl.float32)
            p = tl.where(finite[:, None], p, 0.0)
            length = tl.sqrt_rn(tl.sum(p * p, axis=1))
            tl.store(relevance + row, tl.sum(x * p, axis=1) * _inverse(length) * inverse, mask=there)

    @triton.jit
    def _inverse(norm):
        """1 / norm, and 0 for 0."""
        return tl.where(norm > 0, tl.div_rn(1.0, tl.where(norm > 0, norm, 1.0)), 0.0)

    @triton.jit
    def _isolation_kernel(gram, scale, sizes, isolation, images, n, ROWS: tl.constexpr, BLOCK: tl.constexpr):
        """How far the nearest neighbour of each token is: the largest cosine to any other, negated."""
        row = (tl.program_id(0) * ROWS + tl.arange(0, ROWS)).to(tl.int64)
        token = tl.arange(0, BLOCK)[None, :]
        there = row < images * n
        image = row // n
        size = tl.load(sizes + image, mask=there, other=0)
        others = (token < size[:, None]) & (token != (row % n)[:, None])
        cosine = tl.load(gram + row[:, None] * n + token, mask=others, other=0.0)
        cosine = cosine * tl.load(scale + row, mask=there, other=0.0)[:, None]
        cosine = cosine * tl.load(scale + image[:, None] * n + token, mask=others, other=0.0)
        nearest = tl.max(tl.where(others, cosine, float("-inf")), axis=1)
        tl.store(isolation + row, -nearest, mask=there)

    @triton.jit
    def _added(gram, scale, nearest, pick, token, real, n):
        """The cosine of every token to its closest selected one, once `pick` is selected too; infinite on those."""
        row = tl.load(gram + pick * n + token, mask=real, other=0.0)
        cosine = row * tl.load(scale + pick) * tl.load(scale + token, mask=real, other=0.0)
        return tl.where(token == pick, float("inf"), tl.maximum(nearest, cosine))

    @triton.jit
    def _select_kernel(gram, scale, scores, sizes, cores, budgets, order, n, rounding, BLOCK: tl.constexpr):
        """The core, by score, then greedily the token whose closest selected one is farthest (eq. 6 to 9); of equal
        ones that of the lowest index. Without a core the best score is the first token. All maxima are in registers."""
        image = tl.program_id(0).to(tl.int64)
        token = tl.arange(0, BLOCK)
        real = token < tl.load(sizes + image)
        core, budget = tl.load(cores + image), tl.load(budgets + image)
        gram += image * n * n
        scale += image * n
        order += image * n
        scores += image * n
        nearest = tl.where(real, float("-inf"), float("inf"))
        slack = tl.where(core > 0, 0.0, rounding)
        for step in range(tl.maximum(core, 1)):
            score = tl.load(
                scores + token, mask=nearest < float("inf"), other=float("-inf")
            )  # of those not selected yet
            pick = tl.min(tl.where(score >= tl.max(score, axis=0) - slack, token, BLOCK), axis=0)
            tl.store(order + step, pick.to(tl.int64))
            nearest = _added(gram, scale, nearest, pick, token, real, n)
        for step in range(tl.maximum(core, 1), budget):
            pick = tl.min(tl.where(nearest <= tl.min(nearest, axis=0) + rounding, token, BLOCK), axis=0)
            tl.store(order + step, pick.to(tl.int64))
            nearest = _added(gram, scale, nearest, pick, token, real, n)


def select(
    visual_tokens: list[Tensor], prompt_tokens: list[Tensor], budgets: list[int], cores: list[int], pooling: str
) -> Tensor | None:
    """Selects for all images of a batch without waiting for the GPU.

    Args:
        visual_tokens: per image `(n_i, d)`, any floating dtype.
        prompt_tokens: per image `(m_i, d)`.
        budgets: tokens kept of each image.
        cores: how many of them are chosen by relevance; 0 where there is no prompt.
        pooling: "mean", "max" or "none".

    Returns:
        `(images, n)` int64: the first `budgets[i]` of a row are the tokens in the order they are selected, core first.
        None where the kernels cannot run here, or an image is too large for them.
    """
    global _usable
    images, n, width = len(visual_tokens), max(map(len, visual_tokens)), visual_tokens[0].shape[1]
    if not _usable or n > LONGEST or width > WIDEST or not all_pairs_fit(images, n):
        return None
    features = torch.nn.utils.rnn.pad_sequence(visual_tokens, True) if images > 1 else visual_tokens[0][None]
    pooled = None if pooling == "none" or not any(cores) else _pooled(prompt_tokens, pooling, width)
    try:
        with torch.cuda.device_of(features):  # Triton launches on the current GPU, whichever its tensors are on
            return _launch(
                features.contiguous(), pooled, prompt_tokens, [len(v) for v in visual_tokens], budgets, cores
            )
    except Exception as error:  # no C compiler, no driver that fits: a checkpoint must run there too
        _usable = False
        warnings.warn(f"the selection runs in plain torch, because Triton failed: {error}", stacklevel=2)
        return None


def _launch(
    features: Tensor, pooled: Tensor | None, prompts: list[Tensor], sizes: list[int], budgets: list[int],
    cores: list[int],
) -> Tensor:  # fmt: skip
    (images, n, width), device = features.shape, features.device
    tokens, block = torch.empty_like(features), max(16, triton.next_power_of_2(n))
    scale, scores = (torch.empty(images, n, dtype=torch.float32, device=device) for _ in range(2))
    wide = triton.next_power_of_2(width)
    rows = max(1, _TILE // wide)
    _prepare_kernel[(triton.cdiv(images * n, rows),)](
        features, scale if pooled is None else pooled, tokens, scale, scores, images, n, width,
        ROWS=rows, BLOCK=wide, RELEVANCE=pooled is not None, num_warps=max(4, wide // 1024),
    )  # fmt: skip
    counts = torch.tensor([sizes, cores, budgets], dtype=torch.int32).to(device, non_blocking=True)
    gram = products(tokens, tokens)
    if pooled is None and any(cores):
        for image, prompt in enumerate(prompts):
            if cores[image]:
                scores[image] = (tokens[image].float() @ unit_vectors(prompt).T).amax(1) * scale[image]
    if not all(cores):
        isolation = torch.empty_like(scores)
        rows = max(1, _TILE // block)
        _isolation_kernel[(triton.cdiv(images * n, rows),)](
            gram, scale, counts, isolation, images, n, ROWS=rows, BLOCK=block, num_warps=max(4, block // 1024)
        )
        scores = scores.where(counts[1, :, None] > 0, isolation) if any(cores) else isolation
    order = torch.empty(images, n, dtype=torch.long, device=device)
    _select_kernel[(images,)](
        gram, scale, scores, counts[0], counts[1], counts[2], order, n, ROUNDING,
        BLOCK=block, num_warps=min(32, max(4, block // 512)),
    )  # fmt: skip
    return order


def _pooled(prompts: list[Tensor], pooling: str, width: int) -> Tensor:
    """The pooled prompts (eq. 4) `(images, d)`, float64, in which no sum leaves the range; zero where there is none."""
    found: list[Tensor] = []
    for number, prompt in enumerate(prompts):
        if number and prompt is prompts[number - 1]:  # the images of a row have the same
            found.append(found[-1])
        elif not len(prompt):
            found.append(torch.zeros(width, dtype=torch.float64, device=prompt.device))
        else:
            found.append(prompt.mean(0, dtype=torch.float64) if pooling == "mean" else prompt.amax(0).double())
    return torch.stack(found) if len(found) > 1 else found[0]
