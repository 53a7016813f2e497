"""What a pruner makes of one image: how relevant each visual token is to the question, and which ones are kept."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..remote_code.zspa_selection import ZspaPruner, relevance


@dataclass
class Selection:
    """What a pruner made of one image: `scores` `(n,)`, `core` `(k,)` and `diversity` `(l - k,)`."""

    scores: Tensor
    core: Tensor
    diversity: Tensor

    @property
    def kept(self) -> Tensor:
        return torch.cat([self.core, self.diversity]).sort().values

    @property
    def note(self) -> str | None:
        """What is to be said where the question has no part in the selection."""
        if len(self.core):
            return None
        return "the question plays no part: none of the kept tokens is chosen by relevance"


def explain(model, inputs, keep_ratio: float | None = None, core_ratio: float | None = None) -> Selection:
    """The selection for one image, as `generate` makes it; ratios that are None are the checkpoint's."""
    config = model.config
    pruner = ZspaPruner(
        config.zspa_keep_ratio if keep_ratio is None else keep_ratio,
        config.zspa_core_ratio if core_ratio is None else core_ratio,
        config.zspa_pooling,
    )
    (visual,), (prompt,) = model.visual_and_prompt_tokens(**inputs)
    core, diversity = pruner.split([visual], [prompt])[0]
    scores = relevance(visual, prompt, pruner.pooling) if len(prompt) else torch.zeros(len(visual))
    return Selection(scores.float().cpu(), core.cpu(), diversity.cpu())
