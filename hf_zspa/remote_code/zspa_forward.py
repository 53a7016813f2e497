"""Pruning in `forward`: packing a prompt's kept columns, and a direct call whose logits keep every input position.

What the pruned model computes is what the stock model computes for the full sequence with the dropped columns masked
out of attention (and, for compact positions, the rest renumbered).
"""

import inspect

import torch
from torch import Tensor

from .zspa_compat import cache_argument, cache_of, take_cache
from .zspa_prefill import (
    PackedRows,
    PrunedPrompt,
    PrunedVisuals,
    cached_length,
    forget_if_empty,
    pruned_prompt_of,
    remember,
)
from .zspa_selection import VisualTokenPruner
from .zspa_visuals import ZspaVisualsMixin

CALL_ARGUMENTS = ("visual_token_pruner", "zspa_keep_ratio", "zspa_core_ratio")
DESCRIBE_THE_FULL_PROMPT = (
    "position_ids",
    "mm_token_type_ids",
    "token_type_ids",
    "second_per_grid_ts",
    "mm_encoder_outputs",
)


class ZspaForwardMixin(ZspaVisualsMixin):
    """Runs `forward` on the pruned sequence.

    Attributes:
        rope_rows: rows of position ids the text model takes, 3 for M-RoPE; None for one position per token.
    """

    rope_rows: int | None = None

    def pruned_forward(self, stock_forward, *args, **kwargs):
        """`forward`. With images or videos it runs on the pruned sequence.

        The logits keep every input position: a dropped one repeats the logits of the nearest kept one before it, and
        `logits_to_keep` means input positions. The loss is that of the kept sequence. `hidden_states`, `attentions`
        and the cache have the pruned length. The arguments of `generate` that choose the pruner are taken here too.

        Args:
            stock_forward: the bound `forward` of the stock class.
        """
        if args:
            kwargs |= inspect.signature(stock_forward).bind_partial(*args).arguments
        call = {name: kwargs.pop(name, None) for name in CALL_ARGUMENTS}
        if kwargs.pop("zspa_packed", False):
            return stock_forward(**kwargs)
        cache = take_cache(kwargs)
        forget_if_empty(cache)
        if not self._has_visuals(kwargs):
            return stock_forward(**self._continued(cache, kwargs), **cache_argument(cache))
        pruner = self.pruner_for_call(**call)
        if pruner is None:
            return stock_forward(**kwargs, **cache_argument(cache))
        return self._forward_pruned(stock_forward, pruner, cache, kwargs)

    def _forward_pruned(self, stock_forward, pruner, cache, kwargs: dict):
        input_ids, mask = (kwargs.pop(name, None) for name in ("input_ids", "attention_mask"))
        if cached_length(cache):
            raise ValueError("images after a filled cache cannot be pruned: pass the whole prompt, or keep ratio 1.0")
        if kwargs.pop("inputs_embeds", None) is not None:
            raise ValueError("pruning reads the prompt from input_ids: pass them, not inputs_embeds")
        pruned = self.prune_visuals(input_ids, mask, pruner, kwargs)
        mask = torch.ones_like(input_ids) if mask is None else mask
        positions = _positions_or_count(kwargs.pop("position_ids", None), pruned, input_ids)
        prompt, packed, embeds, positions = self._pack(input_ids, mask, positions, pruned)
        labels = kwargs.pop("labels", None)
        wanted, first = self._wanted_places(
            packed.places(pruned.keep & mask.bool()), packed.mask.shape[1], kwargs.pop("logits_to_keep", 0)
        )
        if labels is not None:
            wanted, first = wanted + first, 0
            kwargs["labels"] = packed.take_labels(labels)
        rest = self._without_visuals(kwargs, "cache_position", "return_dict")
        outputs = stock_forward(
            inputs_embeds=embeds, attention_mask=packed.mask, position_ids=positions, **cache_argument(cache),
            logits_to_keep=packed.mask.shape[1] - first, return_dict=True, **rest,
        )  # fmt: skip
        outputs.logits = outputs.logits.gather(1, wanted[..., None].expand(-1, -1, outputs.logits.shape[-1]))
        remember(cache_of(outputs), prompt)
        return outputs if kwargs.get("return_dict", True) is not False else outputs.to_tuple()

    @torch.no_grad()
    def pruned_inputs(self, pruner: VisualTokenPruner, input_ids, attention_mask=None, **visual) -> dict[str, Tensor]:
        """The pruned prompt as inputs of the stock class, from the arguments of `generate`.

        Args:
            pruner: what selects; `pruner_for_call()` is the one that the config describes.

        Returns:
            `inputs_embeds` `(batch, P, d)`, `attention_mask` `(batch, P)`, 0 on padding, which is on the left, and
            `position_ids` `(batch, P)` or `(rope_rows, batch, P)`; `P` is the length of the longest pruned row.
        """
        pruned = self.prune_visuals(input_ids, attention_mask, pruner, visual)
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        positions = _positions_or_count(visual.get("position_ids"), pruned, input_ids)
        _, packed, embeds, positions = self._pack(input_ids, mask, positions, pruned)
        return {"inputs_embeds": embeds, "attention_mask": packed.mask, "position_ids": positions}

    @staticmethod
    def _wanted_places(places: Tensor, width: int, logits_to_keep: int | Tensor) -> tuple[Tensor, int]:
        """The packed places `(batch, w)` whose logits are asked for, counted from a first one, and that first."""
        if not isinstance(logits_to_keep, int):
            wanted = places[:, logits_to_keep.to(places.device)]
            first = int(wanted.min())
        else:  # the last columns stand for at most as many of the last places
            wanted = places[:, -logits_to_keep:]
            first = max(0, width - logits_to_keep) if logits_to_keep else 0
        return wanted - first, first

    def _continued(self, cache, kwargs: dict) -> dict:
        """Arguments of a step after a pruned prompt in terms of its cache; the caller counts in columns."""
        mask = kwargs.get("attention_mask")
        prompt = pruned_prompt_of(cache)
        if prompt is None:
            return kwargs
        tokens = kwargs["input_ids"] if kwargs.get("input_ids") is not None else kwargs["inputs_embeds"]
        batch, count = tokens.shape[:2]
        cached = cached_length(cache)
        total = cached + prompt.dropped + count
        if mask is None:
            mask = prompt.mask.new_ones(batch, total)
        elif mask.ndim == 2 and mask.shape[1] == cached + count:
            mask = torch.cat([mask.new_ones(batch, prompt.columns), mask[:, prompt.mask.shape[1] :]], dim=1)
        if mask.ndim != 2 or mask.shape[1] != total:
            raise ValueError(
                f"attention_mask is {tuple(mask.shape)}, but must be {(batch, total)}, with a column for each token "
                "of the unpruned sequence so far"
            )
        positions = self._rope_rows(prompt.later_positions(mask, count))
        kwargs = kwargs | {"attention_mask": prompt.pack_mask(mask), "position_ids": positions}
        if kwargs.get("cache_position") is not None:
            kwargs["cache_position"] = torch.arange(cached, cached + count, device=mask.device)
        return kwargs

    def _without_visuals(self, kwargs: dict, *others: str) -> dict:
        """What is left of a call's arguments once packing has used up all that describes the full prompt."""
        visual = {name for names in self.visual_inputs.values() for name in names}
        return {
            name: value for name, value in kwargs.items() if name not in {*DESCRIBE_THE_FULL_PROMPT, *visual, *others}
        }

    def _rope_rows(self, positions: Tensor) -> Tensor:
        return positions if self.rope_rows is None else positions.expand(self.rope_rows, -1, -1)

    def _pack(
        self, input_ids, mask, positions, pruned: PrunedVisuals, copies: int = 1
    ) -> tuple[PrunedPrompt, PackedRows, Tensor, Tensor]:
        """Packs the kept columns of a prompt.

        Args:
            input_ids: `(batch · copies, S)`, each row of `pruned` `copies` times in a row, as for beams.
            mask: `(batch · copies, S)`.
            positions: `(batch · copies, S)` or `(rows, batch · copies, S)`.

        Returns:
            What the cache must remember, the packing, the embeddings `(batch · copies, P, d)` and their positions.
        """
        self._check_window(input_ids.shape[1])
        keep = pruned.keep.repeat_interleave(copies, 0) & mask.bool()
        hidden = self._positions_reach_attention()
        packed = PackedRows.from_keep(keep, pruned.width, padding=int(hidden))
        ids, real = packed.take(input_ids)[::copies], packed.mask[::copies].bool()
        embeds = self.get_input_embeddings()(ids)
        for token_id, features in pruned.features.items():
            spots = ((ids == token_id) & real)[..., None].to(embeds.device)
            embeds = embeds.masked_scatter(spots, features.to(embeds))
        if self.config.zspa_position_ids == "compact":
            positions = (packed.mask.cumsum(1) - 1).clamp_min(0)
            next_position = packed.mask.sum(1, keepdim=True)
        else:
            if self.rope_rows:  # Qwen's text model also takes one row, or four with those of the text in front
                positions = self._rope_rows(positions) if positions.ndim == 2 else positions[-self.rope_rows :]
            positions = positions.expand(*positions.shape[:-2], *keep.shape)
            last = positions.masked_fill(mask == 0, -1).amax(-1, keepdim=True)
            next_position = (last.amax(0) if self.rope_rows else last) + 1
            positions = packed.take(positions)
        prompt = PrunedPrompt(keep.shape[1], packed.mask, next_position, padded=pruned.padded or hidden)
        return prompt, packed, embeds.repeat_interleave(copies, 0) if copies > 1 else embeds, positions

    def _check_window(self, length: int) -> None:
        """Raises `ValueError` where a sliding window is shorter than the sequence: it would count packed places."""
        config = self.config.text_config
        window = getattr(config, "sliding_window", None)
        if window and getattr(config, "use_sliding_window", True) and length > window:
            raise ValueError(
                f"the sequence of {length} tokens is longer than the model's sliding window of {window}, which cannot "
                "be pruned exactly: set zspa_keep_ratio to 1.0"
            )

    def _positions_reach_attention(self) -> bool:
        """Flash attention takes gaps in one row of positions for packed sequences, unless the mask has a 0 in it."""
        implementation = self.config.get_text_config()._attn_implementation or ""
        return "flash" in implementation and self.rope_rows is None


def _positions_or_count(given: Tensor | None, pruned: PrunedVisuals, input_ids: Tensor) -> Tensor:
    """Positions of the full prompt: those given, those of the stock class, or counted along the rows."""
    found = pruned.positions if given is None else given
    counted = torch.arange(input_ids.shape[1], device=input_ids.device)
    return counted.expand_as(input_ids) if found is None else found
