"""How much of an answer stays: the unpruned model's own, forced on the model with each candidate's prompt."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig

from ..remote_code.zspa_calling import RecordingPruner


@dataclass(frozen=True)
class Score:
    """Of one answer of `tokens` tokens under one candidate.

    Attributes:
        stay: how many of them are the most likely still.
        kl: mean KL divergence per token, in nats, of the pruned model's distribution from the unpruned one's.
    """

    tokens: int
    stay: int
    kl: float

    @property
    def whole(self) -> bool:
        """Whether the answer stays: each token given those before it, so that greedy decoding writes the same one."""
        return self.stay == self.tokens


class Asked:
    """One prompt with its images encoded, and the unpruned model's answer to it.

    That is a plain greedy one, of what the model itself holds most likely: nothing of its generation config counts but
    the special tokens. What stands for images in prompts is never answered, as it would be one without an image.

    Args:
        model: a zspa model.
        inputs: what the processor makes of one prompt, on the model's device.
        new_tokens: tokens of the answer at most.

    Attributes:
        visual_tokens: per image `(n_i, d)`, as pruners are given them.
        prompt_tokens: per image `(m_i, d)`.
        answer: `(1, t)`, its token ids.
    """

    @torch.inference_mode()
    def __init__(self, model: Any, inputs: dict[str, Any], new_tokens: int):
        self.model = model
        pixels = {names[0] for names in model.visual_inputs.values()}
        self.rest = {name: value for name, value in inputs.items() if name not in pixels}
        everything = RecordingPruner()  # keeps it: what the encoder made comes back whole
        ids = inputs["input_ids"]
        self.whole = model.prune_visuals(ids, inputs.get("attention_mask"), everything, inputs)
        self.visual_tokens, self.prompt_tokens = everything.visual_tokens, everything.prompt_tokens
        self.never = sorted({model._base.placeholder_id(modality) for modality in model.visual_inputs})
        with _greedy(model, new_tokens, self.never):
            done = model.generate(**self._repeated(1), visual_token_pruner=RecordingPruner())
        self.answer: Tensor = done.sequences[:, ids.shape[1] :]
        self.likely = torch.stack(done.logits, dim=1).float().log_softmax(-1)  # (1, t, vocabulary)

    @torch.inference_mode()
    def scores(self, candidates: Sequence[list[Tensor]], batch_size: int) -> Iterator[Score]:
        """One per candidate, `batch_size` of them at once.

        The answer follows the prompt as candidate tokens do that come with it in speculative decoding.

        Args:
            candidates: the ascending indices that each keeps, per image; all keep equally many.
        """
        for start in range(0, len(candidates), batch_size):
            logits = self._forward(candidates[start : start + batch_size]).float()
            likely = logits.log_softmax(-1)
            kl = (self.likely.exp() * (self.likely - likely)).nan_to_num(0.0).sum(-1).mean(-1)
            stay = (self._answerable(logits).argmax(-1) == self.answer).sum(-1)
            tokens = self.answer.shape[1]
            yield from (Score(tokens, s, max(0.0, k)) for s, k in zip(stay.tolist(), kl.tolist()))

    def _forward(self, candidates: Sequence[list[Tensor]]) -> Tensor:
        """Logits `(candidates, t, vocabulary)` at the places that predict the answer."""
        count, later = len(candidates), self.answer.shape[1]
        inputs = self._repeated(count)
        ids, mask = inputs.pop("input_ids"), inputs.pop("attention_mask", None)
        pruned = self.model.prune_for_generation(ids, mask, Known(candidates, map(len, self.visual_tokens)), inputs)
        behind = self.answer[:, :-1].expand(count, -1)
        if mask is not None:
            mask = torch.cat([mask, torch.ones_like(behind)], dim=1)
        step = self.model.prepare_inputs_for_generation(
            torch.cat([ids, behind], dim=1), attention_mask=mask, zspa_prompt=pruned, use_cache=False, **inputs
        )
        return self.model(**step | {"logits_to_keep": later, "use_cache": False}).logits[:, -later:]

    def _answerable(self, logits: Tensor) -> Tensor:
        """Logits `(..., vocabulary)` without those of what is never answered."""
        ids = [each for each in self.never if each < logits.shape[-1]]
        return logits.index_fill(-1, torch.tensor(ids, dtype=torch.long, device=logits.device), -torch.inf)

    def _repeated(self, count: int) -> dict[str, Any]:
        """The prompt's inputs `count` times, the images encoded."""
        inputs = {
            name: value.repeat(count, *[1] * (value.ndim - 1)) if isinstance(value, Tensor) else value
            for name, value in self.rest.items()
        }
        outputs = {modality: output.stock() for modality, output in self.whole.repeated(count).items()}
        return inputs | {"mm_encoder_outputs": outputs}


@contextmanager
def _greedy(model: Any, new_tokens: int, never: list[int]) -> Iterator[None]:
    """`generate` decodes plainly for a while. What a call is given would be filled up from the model's own config."""
    own = model.generation_config
    special = {name: getattr(own, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    model.generation_config = GenerationConfig(
        **special, do_sample=False, max_new_tokens=new_tokens, suppress_tokens=never, output_logits=True,
        return_dict_in_generate=True,
    )  # fmt: skip
    try:
        yield
    finally:
        model.generation_config = own


class Known:
    """A pruner for one call, whose selection is known.

    Args:
        rows: for each row of the batch the indices per image, of as many tokens in each row.
        sizes: per image of a row `n_i`.
    """

    vouches_for_indices = True

    def __init__(self, rows: Sequence[list[Tensor]], sizes: Iterable[int]):
        self.rows, self.begun = rows, 0
        self.budgets = dict(zip(sizes, map(len, rows[0])))

    def budget(self, n: int) -> int:
        return self.budgets[n]

    def __call__(self, visual_tokens: list[Tensor], prompt_tokens: list[Tensor]) -> list[Tensor]:
        first, count = self.begun, len(visual_tokens) // len(self.rows)  # images first, then videos
        self.begun += count
        return [kept for row in self.rows for kept in row[first : first + count]]
