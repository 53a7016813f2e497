"""Calling a pruner: what it is given, and whether it did what it promised."""

from functools import wraps

import torch
from torch import Tensor

from .zspa_encoder import EncoderOutput
from .zspa_selection import VisualTokenPruner
from .zspa_similarity import plain_precision


def selecting(get_features):
    """`get_image_features` or `get_video_features` of a generating class, which selects when it is given a pruner."""

    @wraps(get_features)
    def get(self, *args, visual_token_pruner=None, prompt_tokens=None, **kwargs):
        """Encodes as the stock class does and, when given a pruner, selects.

        Args:
            visual_token_pruner: a `VisualTokenPruner`; None returns the stock class's features in its own type.
            prompt_tokens: per image `(m_i, d)`.

        Returns:
            With a pruner, `(kept, indices)`: per image the kept tokens `(l_i, d)` and their ascending indices `(l_i,)`.
        """
        output = get_features(self, *args, **kwargs)
        if visual_token_pruner is None:
            return output
        if self._base.images_are != "entries":
            raise ValueError("of these features the prompt says which are one image's: use select_visual_tokens")
        output = EncoderOutput.of(output)
        if len(prompt_tokens) != len(output.images):
            raise ValueError(
                f"{len(output.images)} images need as many prompt_tokens, but there are {len(prompt_tokens)}"
            )
        indices, merged = choose(output.images, prompt_tokens, visual_token_pruner)
        return output.kept(indices, merged).images, indices

    return get


def choose(
    features: list[Tensor], prompts: list[Tensor], pruner: VisualTokenPruner
) -> tuple[list[Tensor], list[Tensor] | None]:
    """Runs `pruner` on detached features and checks that it did what it promised.

    A pruner with an attribute `merges` that is True returns for each image a pair, of indices and of features
    `(budget(n), d)` that stand in their places, which is refused where the encoder is trained.

    Looking at the indices waits for a GPU. A pruner with an attribute `vouches_for_indices` that is True answers itself
    for their order and their range, and is spared that, as this package's own is.

    Returns:
        Per image its indices, and of a pruner that merges its features, without gradient; of another None.
    """
    vouched = getattr(pruner, "vouches_for_indices", False) is True
    name = type(pruner).__name__
    if merges(pruner) and torch.is_grad_enabled() and any(f.requires_grad for f in features):
        raise ValueError(
            f"{name} merges visual tokens, which leaves what made them without gradient: choose a pruner that keeps "
            "tokens as they are, or call the model within torch.no_grad()"
        )
    with torch.no_grad(), plain_precision(features):
        indices = pruner([f.detach() for f in features], [p.detach().to(f.device) for f, p in zip(features, prompts)])
    if len(indices) != len(features):
        raise ValueError(f"{name} returned {len(indices)} results for {len(features)} images: it must return one each")
    merged: list[Tensor] | None = None
    if merges(pruner):
        if any(not isinstance(pair, tuple) or len(pair) != 2 for pair in indices):
            raise ValueError(f"{name} merges, and must return a pair of indices and features for each image")
        indices, merged = [i for i, _ in indices], [given for _, given in indices]
    for i, f in zip(indices, features):
        budget = pruner.budget(len(f))
        if not isinstance(i, Tensor) or i.dtype != torch.long:
            raise ValueError(f"{name} returned {i!r} for an image, but must return a tensor of indices of type int64")
        if i.shape != (budget,) or not 1 <= budget <= len(f):
            raise ValueError(
                f"{name} returned {tuple(i.shape)} indices for an image of {len(f)} tokens, but its budget({len(f)}) "
                f"is {budget}: it must return that many, at least 1"
            )
        if not vouched and not bool(((i >= 0) & (i < len(f))).all() and (i.diff() > 0).all()):
            raise ValueError(f"{name} must return ascending indices below {len(f)}, but returned {i}")
    for i, f, given in zip(indices, features, merged or ()):
        if not isinstance(given, Tensor) or given.shape != (len(i), f.shape[1]):
            found = tuple(given.shape) if isinstance(given, Tensor) else given
            raise ValueError(f"{name} returned features {found} for an image, but must return ({len(i)}, {f.shape[1]})")
    places = [i.to(f.device) for i, f in zip(indices, features)]
    return places, merged and [given.to(f) for given, f in zip(merged, features)]


def merges(pruner: VisualTokenPruner) -> bool:
    """Whether a pruner makes tokens of several, in the place of keeping some as they are."""
    return getattr(pruner, "merges", False) is True


class RecordingPruner:
    """A pruner that keeps everything and records what it was given."""

    def __init__(self):
        self.visual_tokens: list[Tensor] = []
        self.prompt_tokens: list[Tensor] = []

    def budget(self, n: int) -> int:
        return n

    def __call__(self, visual_tokens: list[Tensor], prompt_tokens: list[Tensor]) -> list[Tensor]:
        self.visual_tokens += visual_tokens
        self.prompt_tokens += prompt_tokens
        return [torch.arange(len(v), device=v.device) for v in visual_tokens]
