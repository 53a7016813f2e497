"""The greedy loop of the selection as one GPU kernel. Triton is optional: without it plain torch does the same."""

import warnings

import torch
from torch import Tensor

try:
    import triton
    import triton.language as tl
except ImportError:
    triton = None

LONGEST = 1 << 15  # visual tokens of one image whose running maxima fit in the registers of one program
_usable = triton is not None

if triton is not None:

    @triton.jit
    def _greedy_kernel(gram, scale, closest, added, n, steps, rounding, BLOCK: tl.constexpr):
        """One program per image; the similarity of every token to its closest selected one stays in registers."""
        image = tl.program_id(0).to(tl.int64)
        token = tl.arange(0, BLOCK)
        real = token < n
        scales = tl.load(scale + image * n + token, mask=real, other=0.0)
        nearest = tl.load(closest + image * n + token, mask=real, other=float("inf"))
        for step in range(steps):
            equal = nearest <= tl.min(nearest, axis=0) + rounding
            pick = tl.min(tl.where(equal, token, BLOCK), axis=0)
            tl.store(added + image * steps + step, pick.to(tl.int64))
            row = tl.load(gram + (image * n + pick) * n + token, mask=real, other=0.0)
            similarity = row * tl.load(scale + image * n + pick) * scales
            nearest = tl.where(token == pick, float("inf"), tl.maximum(nearest, similarity))


def greedy(gram: Tensor, scale: Tensor, closest: Tensor, steps: int, rounding: float) -> Tensor | None:
    """Greedy max-min diversity (eq. 8, 9) for all images of a batch in one launch, without waiting for the GPU.

    Args:
        gram: `(images, n, n)` float32 products of tokens, contiguous.
        scale: `(images, n)` float32; a cosine is a product times the scales of both tokens.
        closest: `(images, n)` float32 largest cosine to a selected token, infinite on those and on padding.
        steps: tokens to add.
        rounding: values this close to the smallest count as equal to it; the lowest index of them is taken.

    Returns:
        `(images, steps)` int64, the tokens in the order added; None where the kernel cannot run here.
    """
    global _usable
    images, n = closest.shape
    if not _usable or n > LONGEST:
        return None
    block = max(16, triton.next_power_of_2(n))
    added = torch.empty(images, steps, dtype=torch.long, device=closest.device)
    try:
        with torch.cuda.device_of(closest):  # Triton launches on the current GPU, whichever its tensors are on
            _greedy_kernel[(images,)](
                gram, scale, closest.contiguous(), added, n, steps, rounding,
                BLOCK=block, num_warps=min(32, max(4, block // 512)),
            )  # fmt: skip
    except Exception as error:  # no C compiler, no driver that fits: a checkpoint must run there too
        _usable = False
        warnings.warn(f"the selection runs in plain torch, because Triton failed: {error}", stacklevel=2)
        return None
    return added
