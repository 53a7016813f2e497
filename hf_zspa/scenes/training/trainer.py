"""One step of training: the model, its losses, the float32 master weights and their optimiser."""

from collections import defaultdict
from typing import Any

import torch
from torch import Tensor

from ..scene import PATCH_SIZE
from . import losses
from .families import Family
from .packing import RecordedAttention, packed_inputs

NOUN_LAYER, ANSWER_LAYER = 1, 2  # layers whose attention the pointers teach
WEIGHTS = {"alignment": 0.3, "geometry": 0.3, "pointer": 0.3, "place": 0.5, "early": 0.5}
HEAD_START = 0.2  # of the word embeddings, where answers are read early


class Trainer:
    """Model, probes, optimiser and the float32 master copy of the weights."""

    def __init__(self, family: Family, seed: int, dtype: torch.dtype = torch.bfloat16, read_early: bool = False):
        self.family, self.read_early = family, read_early
        self.model = family.build(seed)
        self.probes = losses.Probes(self.model.config.text_config.hidden_size)
        self.attention = RecordedAttention((NOUN_LAYER, ANSWER_LAYER))
        self.attention.install(self.model)
        self.dtype = dtype
        self.names = [name for name, _ in self.model.named_parameters()]
        self.master = [weight.detach().clone() for weight in self.model.parameters()]
        self.model.to(dtype)
        self.working = list(self.model.parameters())
        self.reset_optimizer()

    def start_answering(self) -> None:
        """A fresh optimizer; where answers are read early, the head starts from what the embeddings have learnt."""
        if self.read_early:
            weights = self.weights()
            head, embeddings = weights["lm_head.weight"], weights["model.language_model.embed_tokens.weight"]
            with torch.no_grad():
                head += HEAD_START * embeddings
                torch._foreach_copy_(self.working, self.master)
        self.reset_optimizer()

    def reset_optimizer(self) -> None:
        groups: dict[tuple[bool, bool], list[Tensor]] = defaultdict(list)
        for name, weight in zip(self.names, self.master, strict=True):
            sees = any(part in name for part in ("vision_tower", "projector", "visual."))
            groups[sees, weight.dim() >= 2 and "embed" not in name].append(weight)
        groups[False, False] += list(self.probes.parameters())
        self.optimizer = torch.optim.AdamW(
            [
                {"params": weights, "weight_decay": 0.05 if decays else 0.0, "sees": sees}
                for (sees, decays), weights in groups.items()
            ],
            betas=(0.9, 0.98),
            fused=True,
        )

    def update(self, loss: Tensor, rate: float, vision_rate: float) -> None:
        """One clipped AdamW step of the master weights, copied back to the working weights."""
        loss.backward()
        for group in self.optimizer.param_groups:
            group["lr"] = vision_rate if group["sees"] else rate
        for weight, working in zip(self.master, self.working, strict=True):
            weight.grad = None if working.grad is None else working.grad.float()
            working.grad = None
        torch.nn.utils.clip_grad_norm_([*self.master, *self.probes.parameters()], 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            torch._foreach_copy_(self.working, self.master)

    def align(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor, dict[str, float]]:
        """Visual tokens (b, n, d) of a batch, the loss of stage A, and what to log."""
        visual = self.family.visual_tokens(self.model, batch["image"])
        embeddings = self.model.model.language_model.embed_tokens.weight.float()
        logits = losses.alignment_logits(visual.float(), embeddings, self.family.vocabulary, self.probes)
        alignment = losses.alignment_loss(logits, batch["words"])
        found = ((logits > 0) == batch["words"]).all(-1)[batch["words"].any(-1)].float().mean()
        loss = WEIGHTS["alignment"] * alignment
        log = {"alignment": alignment.item(), "patches": found.item()}
        if self.family.read_layer == 0:
            geometry = losses.geometry_loss(visual.float(), batch["geometry"], batch["place"], self.probes)
            loss, log["geometry"] = loss + WEIGHTS["geometry"] * geometry, geometry.item()
        else:  # the shape of things; where they are is for the language model to say
            extent = losses.extent_loss(visual.float(), batch["geometry"], batch["place"], self.probes)
            loss, log["extent"] = loss + WEIGHTS["geometry"] * extent, extent.item()
        return visual, loss, log

    def answer(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, float]]:
        """The loss of stage B, and what to log: parts of the loss and accuracy per kind."""
        visual, loss, log = self.align(batch)
        grid = batch["image"].shape[1] // PATCH_SIZE, batch["image"].shape[2] // PATCH_SIZE
        context, span = self.family.context_length(grid), self.family.visual_span(grid)
        self.attention.context = context
        inputs = packed_inputs(self.family, self.model, visual, batch["tokens"], grid)
        output = self.model.model.language_model(**inputs, use_cache=False, output_hidden_states=True)
        size, questions, length = batch["tokens"].shape
        states = output.last_hidden_state[:, context:]
        logits = self.model.lm_head(states).float().view(size, questions, length, -1)
        answer, right = losses.answer_loss(logits, batch["targets"])
        if self.read_early:
            pointing = output.hidden_states[ANSWER_LAYER + 1][:, context:]
            early = self.model.lm_head(self.model.model.language_model.norm(pointing)).float().view_as(logits)
            loss = loss + WEIGHTS["early"] * losses.answer_loss(early, batch["targets"])[0]

        position = context + torch.arange(questions)[:, None] * length + batch["slot_position"]
        pointer = self._pointers(inputs["attention_mask"], position, batch, span)
        place = losses.place_loss(
            _states_at(output.hidden_states[NOUN_LAYER + 1], position[..., 2:]),
            _states_at(output.hidden_states[ANSWER_LAYER + 1], position[..., 0]),
            batch["noun_place"],
            self.probes,
        )
        if self.family.read_layer > 0:
            seen = output.hidden_states[self.family.read_layer][:, span].float()
            geometry = losses.geometry_loss(seen, batch["geometry"], batch["place"], self.probes)
            loss, log["geometry"] = loss + WEIGHTS["geometry"] * geometry, geometry.item()
        log |= {"answer": answer.item(), "pointer": pointer.item(), "place": place.item()}
        for index, kind in enumerate(self.family.domain.kinds):
            if (batch["kind"] == index).any():
                log[kind] = right[batch["kind"] == index].float().mean().item()
        return loss + answer + WEIGHTS["pointer"] * pointer + WEIGHTS["place"] * place, log

    def _pointers(self, mask: Tensor, position: Tensor, batch: dict[str, Tensor], span: slice) -> Tensor:
        """Nouns point to their objects in one layer, answers to what decides them in the next.

        In the layer of the nouns the words of a page point to the word before each.
        """
        patches = batch["slot_patches"]
        slots = {
            NOUN_LAYER: (position[..., 2:].flatten(1), patches[:, :, 2:].flatten(1, 2)),
            ANSWER_LAYER: (position[..., :2].flatten(1), patches[:, :, :2].flatten(1, 2)),
        }
        if batch["previous"].any():
            nouns, objects = slots[NOUN_LAYER]
            slots[NOUN_LAYER] = (
                torch.cat([nouns, span.start + batch["word"]], 1),
                torch.cat([objects, batch["previous"]], 1),
            )
        each = [
            losses.pointer_loss(*self.attention.recorded[layer], mask, *pointers, span)
            for layer, pointers in slots.items()
        ]
        return torch.stack(each).sum()

    def state(self, step: int) -> dict[str, Any]:
        """All that a later run needs to go on after `step` steps."""
        return {
            "step": step,
            "master": self.master,
            "probes": self.probes.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def restore(self, state: dict[str, Any]) -> int:
        """Take up the state of another run; the number of its steps."""
        with torch.no_grad():
            torch._foreach_copy_(self.master, state["master"])
            torch._foreach_copy_(self.working, self.master)
        self.probes.load_state_dict(state["probes"])
        self.optimizer.load_state_dict(state["optimizer"])
        return state["step"]

    def weights(self) -> dict[str, Tensor]:
        """The master weights under their names in the model."""
        return dict(zip(self.names, self.master, strict=True))


def _states_at(states: Tensor, position: Tensor) -> Tensor:
    """states (b, length, d) at position (b, ...), in float32: (b, ..., d)."""
    rows = torch.arange(len(states)).view(-1, *[1] * (position.dim() - 1))
    return states[rows, position].float()
