"""Cosine similarities between the visual tokens of an image, and between them and a prompt, in float32."""

import threading
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

ROUNDING = 2.0**-20  # cosines this close are equal as far as float32 can tell
PAIRS = 1 << 28  # similarities of all pairs held at once on a GPU (1 GiB): one image of 16,384 tokens
BLOCK = 1 << 24  # similarities held at once while looking for nearest neighbours (64 MiB)
COLUMNS = 256  # selected tokens whose similarities to all others are held at once
_ROWS = 128  # tokens at a time on a CPU, for what would else be another copy of all of them; blocks stay in the cache
_ROWS_ON_GPU = 1 << 12


@contextmanager
def plain_precision(tensors: Iterable[Tensor]) -> Iterator[None]:
    """Within it, `tensors` are computed with in their own dtype, whatever a program has switched on: there is no
    autocast on their devices, and products of float32 matrices are float32, not TF32 or bfloat16.

    Autocast belongs to a thread. The precision of products belongs to the process: where a program has lowered it, it
    is raised for all threads until the last one leaves.
    """
    with ExitStack() as stack:
        for kind in {tensor.device.type for tensor in tensors}:
            if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        stack.enter_context(_exact_products)
        yield


class _ExactProducts:
    """What `plain_precision` does for the process: a context that several threads may be in."""

    def __init__(self):
        self.lock = threading.Lock()
        self.inside = 0
        self.lowered: _Precision | None = None

    def __enter__(self):
        with self.lock:
            if not self.inside and _may_be_inexact():
                self.lowered = _Precision()
            self.inside += 1

    def __exit__(self, *error):
        with self.lock:
            self.inside -= 1
            if not self.inside and self.lowered:
                self.lowered.restore()
                self.lowered = None


def _may_be_inexact() -> bool:
    """Whether products of float32 or float16 matrices may be less precise than float32."""
    try:
        lowered = torch.get_float32_matmul_precision() != "highest"
    except RuntimeError:  # lowered by the settings per backend, with which this one no longer agrees
        lowered = True
    return lowered or getattr(torch.backends.cuda.matmul, "allow_fp16_accumulation", False)  # torch 2.7


class _Precision:
    """The precision that a program lets products of matrices have, which is raised until `restore`.

    From 2.9 on torch has a setting per backend beside the one for all.
    """

    def __init__(self):
        self.cuda = torch.backends.cuda.matmul
        backends: list[Any] = [self.cuda, getattr(torch.backends.mkldnn, "matmul", None)]
        self.per_backend = [(it, it.fp32_precision) for it in backends if hasattr(it, "fp32_precision")]
        self.float16_sums = getattr(self.cuda, "allow_fp16_accumulation", False)
        for backend, _ in self.per_backend:
            backend.fp32_precision = "ieee"
        self.for_all = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("highest")
        if self.float16_sums:
            self.cuda.allow_fp16_accumulation = False

    def restore(self) -> None:
        torch.set_float32_matmul_precision(self.for_all)
        for backend, precision in self.per_backend:
            backend.fp32_precision = "none"  # as it is set for all backends
            if backend.fp32_precision != precision:
                backend.fp32_precision = precision
        if self.float16_sums:
            self.cuda.allow_fp16_accumulation = True


_exact_products = _ExactProducts()


def on_cpu(tensor: Tensor) -> bool:
    """Whether results can be looked at without waiting; the way of computing differs, what is selected does not."""
    return tensor.device.type == "cpu"


def images_together(n: int) -> int:
    """How many images of `n` tokens have the similarities of all their pairs held at once on a GPU; it may be 0."""
    return PAIRS // n**2


def first_minimum(values: Tensor) -> Tensor:
    """Index `()` of the smallest of `(n,)`; ties, also those that rounding alone parts, go to the lowest index."""
    return (values <= values.amin() + ROUNDING).byte().argmax()


def unit_vectors(tokens: Tensor) -> Tensor:
    """Rows of `(..., d)` scaled to length 1 in float32; rows that are zero, or not finite, become zero.

    Dividing by the largest entry first keeps the squares of tiny and huge entries inside the range of float32. Where
    looking at the norms costs nothing, on a CPU, that is done only when it must be.
    """
    tokens = tokens.float()
    if on_cpu(tokens):
        norm = torch.linalg.vector_norm(tokens, dim=-1, keepdim=True)
        if ((norm > 1e-15) & (norm < 1e15)).all():
            return tokens / norm
    tokens = torch.nan_to_num(tokens / tokens.abs().amax(-1, keepdim=True), nan=0.0)
    return torch.nan_to_num(tokens / tokens.norm(dim=-1, keepdim=True), nan=0.0)


def centred(tokens: Tensor) -> Tensor:
    """Tokens `(n, d)` less their mean, float32; a remainder below 1e-6 of its token's norm is zero."""
    tokens = tokens.double()
    tokens = tokens.where(tokens.isfinite().all(-1, keepdim=True), 0.0)
    norm = torch.linalg.vector_norm(tokens, dim=-1, keepdim=True)
    rest = tokens - tokens.mean(0)
    return rest.where(torch.linalg.vector_norm(rest, dim=-1, keepdim=True) >= 1e-6 * norm, 0.0).float()


def first_equal(tokens: Tensor, scale: Tensor) -> Tensor:
    """For each of `(n, d)` the index of the first token equal to it, `(n,)`; `scale` is their 1 / norm `(n,)`.

    Equal tokens have the same norm to the last bit, so that on a CPU only those that share one are compared.
    """
    places = torch.arange(len(tokens), device=tokens.device)
    some = places
    if on_cpu(tokens):
        order = scale.argsort(stable=True)
        same = scale[order].diff() == 0
        some = order[torch.cat([same, same.new_zeros(1)]) | torch.cat([same.new_zeros(1), same])].sort().values
        if not len(some):
            return places
    group = tokens[some].unique(dim=0, return_inverse=True)[1]
    first = torch.full_like(some, len(tokens)).scatter_reduce(0, group, some, "amin")
    return places.scatter(0, some, first[group])


class Cosines:
    """Cosines between the visual tokens `(n, d)` of one image.

    The tokens are not made unit vectors, which would be one more copy of them: a cosine is a product of two tokens,
    scaled afterwards by both their norms. On a GPU the tokens stay in 16 bits if they came so, because the products of
    16-bit numbers are exact in float32.

    Attributes:
        tokens: `(n, d)`.
        scale: `(n,)` float32, 1 / norm of each token, 0 for a token that is zero or not finite.
    """

    def __init__(self, visual: Tensor):
        # Sums along other strides may round equal tokens differently.
        tokens, self.scale = _tokens_and_scale(visual.contiguous())
        self.tokens = tokens if summed_in_float32(tokens) else tokens.float()

    @cached_property
    def _products(self) -> Tensor | None:
        """Products `(n, n)` of all pairs, where they fit."""
        return products(self.tokens, self.tokens) if images_together(len(self.tokens)) else None

    def to_tokens(self, picks: Tensor) -> Tensor:
        """Cosines `(s, n)` of the tokens `picks` `(s,)` to all."""
        known = self._products
        found = products(self.tokens[picks], self.tokens) if known is None else known[picks]
        return found * self.scale[picks, None] * self.scale

    def to_closest(self, selected: Tensor) -> Tensor:
        """Cosine `(n,)` of each token to the closest of those selected, `(s,)`; 1, but for rounding, for these."""
        first, *others = selected.split(COLUMNS)
        closest = self.to_tokens(first).amax(0)
        for some in others:
            closest = torch.maximum(closest, self.to_tokens(some).amax(0))
        return closest

    def to_nearest(self) -> Tensor:
        """Cosine `(n,)` of each token to its nearest neighbour, -inf where there is none."""
        n = len(self.tokens)
        blocks = torch.arange(n, device=self.scale.device).split(max(1, BLOCK // n))
        return torch.cat([self.to_tokens(b).scatter(1, b[:, None], -torch.inf).amax(1) for b in blocks])

    def to_prompt(self, prompt: Tensor, pooling: str) -> Tensor:
        """Cosine `(n,)` of each token to the pooled prompt `(m, d)`; "none" takes each token's best one over the prompt
        tokens, out of a matrix product, which on a CPU rounds equal tokens differently."""
        if pooling == "none":
            best = (self.tokens.float() @ unit_vectors(prompt).T).amax(1) * self.scale
            return best[first_equal(self.tokens, self.scale)] if on_cpu(best) else best
        prompt = prompt.float()
        prompt = prompt / prompt.abs().amax().clamp_min(torch.finfo(torch.float32).tiny)
        pooled = unit_vectors(prompt.mean(0) if pooling == "mean" else prompt.amax(0))
        # Row by row, so that equal tokens get equal cosines; without a second copy of all tokens.
        rows = _ROWS if on_cpu(self.tokens) else _ROWS_ON_GPU
        blocks = self.tokens.tensor_split(-(-len(self.tokens) // rows))
        return torch.cat([(block * pooled).sum(1) for block in blocks]) * self.scale


def _tokens_and_scale(visual: Tensor) -> tuple[Tensor, Tensor]:
    """Tokens `(n, d)` whose squares stay inside the range of float32, and their 1 / norm `(n,)`, 0 for zero rows."""
    if on_cpu(visual):  # looking at the norms costs nothing there
        visual = visual.float()
        norm = torch.linalg.vector_norm(visual, dim=-1)
        if ((norm > 1e-15) & (norm < 1e15)).all():
            return visual, norm.reciprocal()
    visual = visual.float() if visual.dtype == torch.float64 else visual
    # Dividing by a power of two is exact. That of the largest entry is its bits without sign and mantissa.
    largest = visual.abs().amax(-1, keepdim=True).float()
    power = (largest.view(torch.int32) & 0x7F800000).view(torch.float32)
    tokens = torch.nan_to_num(visual.float() / power.clamp_min(torch.finfo(torch.float32).tiny), nan=0.0)
    tokens = tokens.to(visual.dtype)
    norm = torch.linalg.vector_norm(tokens, dim=-1, dtype=torch.float32)
    return tokens, norm.reciprocal().where(norm > 0, 0.0)


def summed_in_float32(tokens: Tensor) -> bool:
    """Whether a matrix product of 16-bit tokens can be had in float32, as cuBLAS sums it up."""
    in_16_bits = tokens.dtype in (torch.float16, torch.bfloat16)
    return tokens.is_cuda and in_16_bits and "dtype" in torch.ops.aten.bmm.overloads()


def products(a: Tensor, b: Tensor) -> Tensor:
    """Products `(n, m)` of the rows of `(n, d)` and `(m, d)`, or of each image's, summed up in float32."""
    if not summed_in_float32(a):
        return a.float() @ b.float().mT
    if a.ndim == 2:
        return torch.bmm(a[None], b.T[None], out_dtype=torch.float32)[0]
    return torch.bmm(a, b.mT, out_dtype=torch.float32)
