"""What the embedded model is trained on: alignment, geometry, pointers, places and answers.

Shapes: b images, q questions each, n visual tokens, d hidden size. Everything in float32.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, normalize

from ..vocabulary import Vocabulary
from .batches import IGNORED


class Probes(nn.Module):
    """Small read-outs that exist only in training."""

    def __init__(self, hidden_size: int):
        super().__init__()
        self.alignment_scale = nn.Parameter(torch.tensor(2.5))
        self.alignment_bias = nn.Parameter(torch.tensor(-5.0))
        self.geometry = nn.Linear(hidden_size, 6)
        self.extent = nn.Linear(hidden_size, 4)
        self.noun_place = nn.Linear(hidden_size, 2)
        self.offset = nn.Linear(hidden_size, 2)


def alignment_logits(visual: Tensor, embeddings: Tensor, vocabulary: Vocabulary, probes: Probes) -> Tensor:
    """Scaled cosine of each visual token (b, n, d) to each visible word: (b, n, words)."""
    words = embeddings[torch.tensor(vocabulary.encode_tokens(vocabulary.visible))]
    cosine = normalize(visual, dim=-1) @ normalize(words, dim=-1).T
    return cosine * probes.alignment_scale.exp() + probes.alignment_bias


def alignment_loss(logits: Tensor, words: Tensor) -> Tensor:
    """Sigmoid loss on "does this patch show this word", per patch that shows something."""
    shown = words.any(-1, keepdim=True).float()
    loss = binary_cross_entropy_with_logits(logits, words.float(), reduction="none", weight=0.25 + 0.75 * shown)
    return loss.sum() / shown.sum().clamp(min=1)


def geometry_loss(states: Tensor, geometry: Tensor, place: Tensor, probes: Probes) -> Tensor:
    """Keeps place (b, n, 2) and geometry (b, n, 4), NaN where unknown, linearly readable from states (b, n, d).

    Alignment alone would erase all of it: two patches of one red star have one description.
    """
    read = probes.geometry(normalize(states, dim=-1) * states.shape[-1] ** 0.5)
    known = ~geometry.isnan()
    thing = (read[..., 2:] - geometry.nan_to_num()).square()[known].mean()
    return (read[..., :2] - place).square().mean() + thing


def extent_loss(visual: Tensor, geometry: Tensor, place: Tensor, probes: Probes) -> Tensor:
    """Keeps the centre, seen from the patch, and the size of what each patch shows readable from visual (b, n, d)."""
    read = probes.extent(normalize(visual, dim=-1) * visual.shape[-1] ** 0.5)
    relative = geometry - torch.cat([place, torch.zeros_like(place)], -1)
    known = ~relative.isnan()
    return (read - relative.nan_to_num()).square()[known].mean()


def pointer_loss(
    query: Tensor, key: Tensor, mask: Tensor, position: Tensor, patches: Tensor, visual_span: slice
) -> Tensor:
    """-log of the attention the last head gives to the right patches, over pointers that have any.

    query, key (b, heads, length, size); mask (b, 1, length, length); position (b, pointers) in the
    packed sequence, whose visual tokens are at `visual_span`; patches (b, pointers, n) bool.
    """
    asks = query[:, -1].gather(1, position[..., None].expand(-1, -1, query.shape[-1]))
    scores = asks @ key[:, -1].transpose(1, 2) * query.shape[-1] ** -0.5
    scores = scores + mask[:, 0].gather(1, position[..., None].expand(-1, -1, mask.shape[-1]))
    seen = scores[..., visual_span].masked_fill(~patches, torch.finfo(scores.dtype).min)
    loss = scores.logsumexp(-1) - seen.logsumexp(-1)
    used = patches.any(-1)
    return loss[used].mean()


def place_loss(at_nouns: Tensor, at_answer: Tensor, noun_place: Tensor, probes: Probes) -> Tensor:
    """The state at a noun knows where its object is; the state at the answer, the offset between two.

    at_nouns (b, q, 2, d), at_answer (b, q, d), noun_place (b, q, 2, 2) with NaN where there is no noun.
    """
    known = ~noun_place.isnan()
    nouns = (probes.noun_place(_unit(at_nouns)) - noun_place.nan_to_num()).square()[known].mean()
    both = known.all(-1).all(-1)
    offset = (noun_place[:, :, 0] - noun_place[:, :, 1]).nan_to_num()
    return nouns + (probes.offset(_unit(at_answer)) - offset).square()[both].mean()


def answer_loss(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy on the answer tokens, and which questions are answered right (b, q) bool."""
    loss = cross_entropy(logits.flatten(0, 2), targets.flatten(), ignore_index=IGNORED)
    right = ((logits.argmax(-1) == targets) | (targets == IGNORED)).all(-1)
    return loss, right


def _unit(states: Tensor) -> Tensor:
    return states / states.square().mean(-1, keepdim=True).add(1e-6).sqrt()
