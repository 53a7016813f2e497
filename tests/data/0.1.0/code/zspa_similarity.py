"""Cosine similarities between visual tokens, and between them and a prompt, without unit vectors of all tokens."""

from copy import copy

import torch
from torch import Tensor

_GRAM = 1 << 28  # similarities of all pairs held at once on a GPU (1 GiB): one image of 16,384 tokens
_ROWS = 128  # tokens at a time on a CPU, for what would else be another copy of all of them; blocks stay in the cache
_ROWS_ON_GPU = 1 << 12
_SKETCH = 128  # entries of a token that a guess at its similarities is made from
ROUNDING = 2.0**-20  # cosines this close are equal as far as float32 can tell
WIDTH = 16  # a matrix product with a multiple of so many columns is up to twice as fast on a CPU


def on_cpu(tensor: Tensor) -> bool:
    """Whether results can be looked at without waiting; the way of computing differs, what is selected does not."""
    return tensor.device.type == "cpu"


def images_together(visual_tokens: list[Tensor]) -> int:
    """How many of some images are selected from at once: on a CPU nothing is gained by padding one to another."""
    if not visual_tokens or on_cpu(visual_tokens[0]):
        return 1
    return max(1, _GRAM // max(len(v) for v in visual_tokens) ** 2)


def all_pairs_fit(images: int, n: int) -> bool:
    """Whether the similarities of all pairs of so many images' tokens are held at once on a GPU."""
    return images * n * n <= _GRAM


def unit_vectors(tokens: Tensor) -> Tensor:
    """Rows of `(..., d)` scaled to length 1 in float32; rows that are zero, or not finite, become zero.

    Dividing by the largest entry first keeps the squares of tiny and huge entries inside the range of float32. Where
    looking at the norms costs nothing, on a CPU, that is done only when it must be.
    """
    if on_cpu(tokens):
        norm = torch.linalg.vector_norm(tokens, dim=-1, keepdim=True, dtype=torch.float32)
        if ((norm > 1e-15) & (norm < 1e15)).all():
            return (tokens / norm).float()
    tokens = tokens.float()
    tokens = torch.nan_to_num(tokens / tokens.abs().amax(-1, keepdim=True), nan=0.0)
    return torch.nan_to_num(tokens / tokens.norm(dim=-1, keepdim=True), nan=0.0)


class Cosines:
    """Cosines between the visual tokens of some images, padded with zeros to the longest.

    The tokens are not made unit vectors, which would be one more copy of them: a cosine is a product of two tokens,
    scaled afterwards by both their norms. On a GPU the tokens stay in 16 bits if they came so, because the products of
    16-bit numbers are exact in float32. (Those of float32 tokens are not where a program has switched TF32 on.)

    Attributes:
        on_cpu: whether results can be looked at without waiting.
        tokens: `(images, n, d)`.
        scale: `(images, n)` float32, 1 / norm of each token, 0 for a token that is zero or not finite.
        valid: `(images, n)` bool, False on padding.
        gram: `(images, n, n)` float32, all products, on a GPU and where they fit; else None.
        pairs: `(n, n)` float32, all cosines of the one image, on a CPU where it has few tokens or once they had to be
            computed; else None.
        sketch: `(n, s)` float32, the first entries of the one image's tokens as unit vectors, once guesses are made
            from them; else None.
    """

    def __init__(self, visual_tokens: list[Tensor]):
        several = len(visual_tokens) > 1
        padded = torch.nn.utils.rnn.pad_sequence(visual_tokens, True) if several else visual_tokens[0][None]
        padded = padded.contiguous()  # sums along other strides may round equal tokens differently
        self.on_cpu = on_cpu(padded)
        self.tokens, self.scale = _tokens_and_scale(padded)
        lengths = torch.tensor([len(v) for v in visual_tokens]).to(padded.device, non_blocking=True)
        self.valid = torch.arange(padded.shape[1], device=padded.device) < lengths[:, None]
        self.gram: Tensor | None = None
        self.pairs: Tensor | None = None
        self.sketch: Tensor | None = None
        if not self.on_cpu:
            if all_pairs_fit(*padded.shape[:2]):
                self.gram = products(self.tokens, self.tokens)
            elif not _summed_in_float32(self.tokens):
                self.tokens = self.tokens.float()

    def only(self, rows: Tensor) -> "Cosines":
        """Those between some tokens `(s,)` of the one image, on a CPU."""
        chosen = copy(self)
        chosen.tokens, chosen.scale = self.tokens.index_select(1, rows), self.scale.index_select(1, rows)
        chosen.valid, chosen.pairs = self.valid.index_select(1, rows), None
        chosen.sketch = None if self.sketch is None else self.sketch.index_select(0, rows)
        return chosen

    def guess(self, tokens: Tensor) -> Tensor:
        """Guesses at the cosines `(s, s)` among tokens `(s,)` of the one image, from their first entries."""
        if self.sketch is None:
            self.sketch = unit_vectors(self.tokens[0, :, :_SKETCH])
        some = self.sketch.index_select(0, tokens)
        return some @ some.T

    def compare_all(self) -> None:
        """Fills `pairs`."""
        self.pairs = (self.tokens[0] @ self.tokens[0].T).mul_(self.scale[0, :, None]).mul_(self.scale[0])

    def to_tokens(self, picks: Tensor) -> Tensor:
        """Cosines `(images, s, n)` of the tokens `picks` `(images, s)` to all tokens of their image."""
        if self.pairs is not None:
            return self.pairs[picks]
        image = torch.arange(len(picks), device=picks.device)[:, None]
        scale = self.scale[image, picks][..., None]
        if self.gram is not None:
            found = self.gram[image, picks]
        elif self.on_cpu:
            found = self._products_on_cpu(picks[0])
        else:
            found = products(self.tokens[image, picks], self.tokens)
        return found * scale * self.scale[:, None]

    def _products_on_cpu(self, picks: Tensor) -> Tensor:
        """Products `(1, s, n)` of tokens `(s,)` with all of the one image. It is faster to have the long side of the
        product as its rows, and a token more than once than an odd number of columns."""
        count = len(picks)
        wide = torch.cat([picks, picks[:1].expand(-count % WIDTH)])
        return (self.tokens[0] @ self.tokens[0].index_select(0, wide).T)[:, :count].T.contiguous()[None]

    def among(self, image: int, rows: slice, columns: slice) -> Tensor:
        """Cosines `(rows, columns)` between two ranges of an image's tokens; those of a token to itself, and
        those of padding, are -inf."""
        scale = self.scale[image]
        if self.gram is not None:
            found = self.gram[image, rows, columns] * scale[rows, None]
        else:
            found = products(self.tokens[image, rows], self.tokens[image, columns]).mul_(scale[rows, None])
        found.mul_(scale[columns])
        if len(self.valid) > 1:
            found.masked_fill_(~(self.valid[image, rows, None] & self.valid[image, columns]), -torch.inf)
        found.diagonal(rows.start - columns.start).fill_(-torch.inf)
        return found

    def to_prompt(self, image: int, prompt: Tensor, pooling: str) -> Tensor:
        """Cosines `(n,)` to the pooled prompt (eq. 4, 5); "none" takes each token's best one over prompt tokens,
        out of a matrix product, which may round equal tokens differently."""
        tokens, scale = self.tokens[image], self.scale[image]
        if pooling == "none":
            return (tokens.float() @ unit_vectors(prompt).T).amax(1) * scale
        prompt = prompt.float()
        prompt = prompt / prompt.abs().amax().clamp_min(torch.finfo(torch.float32).tiny)
        pooled = unit_vectors(prompt.mean(0) if pooling == "mean" else prompt.amax(0))
        # Row by row, so that equal tokens get equal cosines; without a second copy of all tokens.
        blocks = tokens.tensor_split(-(-len(tokens) // (_ROWS if self.on_cpu else _ROWS_ON_GPU)))
        return torch.cat([(block * pooled).sum(1) for block in blocks]) * scale


def _tokens_and_scale(visual: Tensor) -> tuple[Tensor, Tensor]:
    """Tokens `(images, n, d)` whose squares stay inside the range of float32, and their 1 / norm, 0 for zero rows."""
    if on_cpu(visual):  # looking at the norms costs nothing there
        visual = visual.float()
        norm = torch.linalg.vector_norm(visual, dim=-1)
        if ((norm > 1e-15) & (norm < 1e15)).all():
            return visual, norm.reciprocal()
    # Dividing by a power of two is exact. That of the largest entry is its bits without sign and mantissa.
    largest = visual.abs().amax(-1, keepdim=True).float()
    power = (largest.view(torch.int32) & 0x7F800000).view(torch.float32)
    tokens = torch.nan_to_num(visual.float() / power.clamp_min(torch.finfo(torch.float32).tiny), nan=0.0)
    tokens = tokens.to(visual.dtype)
    norm = torch.linalg.vector_norm(tokens, dim=-1, dtype=torch.float32)
    return tokens, norm.reciprocal().where(norm > 0, 0.0)


def _summed_in_float32(tokens: Tensor) -> bool:
    """Whether a matrix product of 16-bit tokens can be had in float32, as cuBLAS sums it up."""
    in_16_bits = tokens.dtype in (torch.float16, torch.bfloat16)
    return tokens.is_cuda and in_16_bits and "dtype" in torch.ops.aten.bmm.overloads()


def products(a: Tensor, b: Tensor) -> Tensor:
    """Products `(n, m)` of the rows of `(n, d)` and `(m, d)`, or of each image's, summed up in float32."""
    if not _summed_in_float32(a):
        return a.float() @ b.float().mT
    if a.ndim == 2:
        return torch.bmm(a[None], b.T[None], out_dtype=torch.float32)[0]
    return torch.bmm(a, b.mT, out_dtype=torch.float32)
