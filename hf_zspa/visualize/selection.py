"""What a pruner makes of one image: how relevant each visual token is to the question, and which ones are kept."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..remote_code.zspa_selection import ZspaPruner, relevance

_WHY = {
    "zspa": ("core: closest to the question", "diversity: unlike those kept before"),
    "weighted": ("among the closest to the question", "others: unlike those kept before"),
    "dpp": ("among the closest to the question", "others: unlike those kept before"),
    "mmtok": ("among the closest to the question", "others: cover the rest of the image"),
}


@dataclass
class Selection:
    """What a pruner made of one image.

    Attributes:
        scores: `(n,)`, how relevant each token is to the question.
        core: `(k,)`, of the method "zspa" the tokens chosen for their relevance, of the others those kept that are
            among as many of the most relevant as are kept at all.
        diversity: `(l - k,)`, the other tokens kept.
        method: how they were chosen.
        asked: whether the question plays a part.
    """

    scores: Tensor
    core: Tensor
    diversity: Tensor
    method: str = "zspa"
    asked: bool = True

    @property
    def kept(self) -> Tensor:
        return torch.cat([self.core, self.diversity]).sort().values

    @property
    def why(self) -> tuple[str, str]:
        """Why the tokens of the core, and the others, were kept, in words."""
        return _WHY[self.method]

    @property
    def note(self) -> str | None:
        """What is to be said where the question has no part in the selection."""
        return None if self.asked else "the question plays no part: none of the kept tokens is chosen by relevance"


def explain(model, inputs, **settings: Any) -> Selection:
    """The selection for one image, as `generate` makes it.

    Args:
        settings: `keep_ratio`, `method`, `core_ratio`, `relevance_weight`, `pooling` and `centre`; what is None is the
            checkpoint's.
    """
    (visual,), (prompt,) = model.visual_and_prompt_tokens(**inputs)
    return explain_tokens(model, visual, prompt, **settings)


def explain_tokens(model, visual: Tensor, prompt: Tensor, **settings: Any) -> Selection:
    """`explain`, of what `visual_and_prompt_tokens` of the model has for the image: nothing is encoded."""
    config = model.config
    asked = {f"zspa_{name}": value for name, value in settings.items()}
    method = settings.get("method") or config.zspa_method
    pruner = model.pruner_for_call(**asked)
    if pruner is None:  # all tokens are kept
        method, pruner = "zspa", ZspaPruner(1.0, config.zspa_core_ratio, config.zspa_pooling)
    core, diversity = pruner.split([visual], [prompt])[0]
    scores = torch.zeros(len(visual))
    if len(prompt):
        scores = relevance(visual, prompt, getattr(pruner, "pooling", "none"))
    counts = len(core) if method == "zspa" else len(prompt) and getattr(pruner, "relevance_weight", 1)
    return Selection(scores.float().cpu(), core.cpu(), diversity.cpu(), method, bool(counts))
