"""Pruning in `generate` and in `forward`.

What the pruned model computes is what the stock model computes for the full sequence with the dropped columns masked
out of attention (and, for compact positions, the rest renumbered).
"""

import inspect

import torch
from torch import Tensor

from .zspa_compat import check_assistant, empty_cache, generic_inputs, roll_back_in_columns
from .zspa_prefill import PackedRows, PrunedPrompt, PrunedVisuals, cached_length, pruned_prompt_of, remember
from .zspa_visuals import ZspaVisualsMixin

CALL_ARGUMENTS = ("visual_token_pruner", "zspa_keep_ratio", "zspa_core_ratio")
REPLACED = ("position_ids", "mm_token_type_ids", "token_type_ids", "second_per_grid_ts", "mm_encoder_outputs")


class ZspaGenerationMixin(ZspaVisualsMixin):
    """Prunes the prompt on the first step of a generation and keeps the books on later ones.

    It comes before the stock class in the bases of a family's model.

    Attributes:
        rope_rows: rows of position ids the text model takes, 3 for M-RoPE; None for one position per token.
    """

    rope_rows: int | None = None

    def full_position_ids(self, input_ids: Tensor, attention_mask: Tensor | None, visual: dict) -> Tensor | None:
        """Positions `(rope_rows, batch, S)` the stock class gives the full prompt; None where it just counts."""
        return None

    @torch.no_grad()
    def generate(
        self, inputs=None, *args, visual_token_pruner=None, zspa_keep_ratio=None, zspa_core_ratio=None, **kwargs
    ):
        """`GenerationMixin.generate`, on a pruned prompt. The output starts with the full prompt, as always.

        Args:
            visual_token_pruner: a `VisualTokenPruner` for this call, in place of the one the config describes.
            zspa_keep_ratio: share of each image's tokens kept in this call, in (0, 1].
            zspa_core_ratio: share of the kept tokens chosen by relevance in this call, in [0, 1].

        Raises:
            ValueError: a ratio is outside its range, or the call has images after a filled cache, `inputs_embeds`
                with images, or `prefill_chunk_size`, none of which can be pruned.
        """
        pruner = self._pruner(visual_token_pruner, zspa_keep_ratio, zspa_core_ratio)
        input_ids = kwargs.get("input_ids") if inputs is None else inputs
        cache = kwargs.get("past_key_values")
        visuals = self._has_visuals(kwargs)
        if cached_length(cache):
            kept_images = self._check_continuation(input_ids, kwargs.get("attention_mask"), cache, pruner)
            if visuals and kept_images:
                kwargs = self._without_pixels(kwargs)
        elif visuals and pruner is not None:
            pruned = self._prune_visuals(input_ids, kwargs.get("attention_mask"), pruner, kwargs)
            pruned.assisted = getattr(kwargs.get("generation_config"), "is_assistant", False)
            kwargs = self._without_pixels(kwargs) | {"zspa_prompt": pruned}
        if visuals and pruner is None:
            kwargs["zspa_keep_ratio"] = 1.0
        return super().generate(inputs, *args, **kwargs)

    def _without_pixels(self, kwargs: dict) -> dict:
        pixels = [names[0] for names in self.visual_inputs.values()]
        return {name: value for name, value in kwargs.items() if name not in (*pixels, "mm_encoder_outputs")}

    def _check_continuation(self, input_ids, attention_mask, cache, pruner) -> bool:
        """Whether `cache` holds a pruned prompt, after checking that what follows it is text and can be told apart."""
        prompt = pruned_prompt_of(cache)
        if pruner is None and prompt is None:
            return False
        start = cached_length(cache) + (prompt.dropped if prompt else 0)
        if prompt and (input_ids is None or input_ids.shape[1] <= start):
            raise ValueError(
                f"past_key_values stands for {start} tokens of a pruned conversation: pass input_ids of the whole "
                "conversation, with the new turn after them"
            )
        placeholders = [getattr(self.config, f"{modality}_token_id") for modality in self.visual_inputs]
        new = input_ids[:, start:] if input_ids is not None else torch.empty(0)
        if torch.isin(new, torch.tensor(placeholders, device=new.device)).any():
            raise ValueError(
                "a new image after a filled cache cannot be pruned: pass the whole conversation without "
                "past_key_values, or zspa_keep_ratio=1.0"
            )
        return prompt is not None

    def prepare_inputs_for_generation(
        self,
        input_ids,
        past_key_values=None,
        attention_mask=None,
        zspa_prompt: PrunedVisuals | None = None,
        visual_token_pruner=None,
        zspa_keep_ratio=None,
        zspa_core_ratio=None,
        **kwargs,
    ):
        """Inputs of one step. The first step is the one that finds an empty cache; it runs on the pruned prompt.

        Args:
            zspa_prompt: what `generate` selected, once per call; None selects here, from the pixels in `kwargs`.
        """
        prompt = pruned_prompt_of(past_key_values)
        if cached_length(past_key_values) == 0:
            remember(past_key_values, None)
            if zspa_prompt is None and self._has_visuals(kwargs):
                pruner = self._pruner(visual_token_pruner, zspa_keep_ratio, zspa_core_ratio)
                if pruner is not None:
                    zspa_prompt = self._prune_visuals(input_ids, attention_mask, pruner, kwargs)
            if zspa_prompt is not None:
                return self._first_inputs(input_ids, past_key_values, attention_mask, zspa_prompt, kwargs)
        elif prompt is not None:
            return self._later_inputs(input_ids, past_key_values, attention_mask, prompt, kwargs)
        if zspa_keep_ratio is not None:
            kwargs["zspa_keep_ratio"] = zspa_keep_ratio
        return super().prepare_inputs_for_generation(
            input_ids, past_key_values=past_key_values, attention_mask=attention_mask, **kwargs
        )

    def _first_inputs(self, input_ids, cache, attention_mask, pruned: PrunedVisuals, kwargs: dict) -> dict:
        """The pruned prompt, and behind it the tokens that a step without a cache, or with candidates, has already."""
        batch, columns = pruned.keep.shape
        if input_ids.shape[1] < columns:
            raise ValueError(
                f"a prompt of {columns} tokens arrived in a piece of {input_ids.shape[1]}: a pruned prompt cannot be "
                "prefilled in chunks; leave out prefill_chunk_size, or set zspa_keep_ratio to 1.0"
            )
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        positions = kwargs.get("position_ids")
        if positions is None:
            positions = self.full_position_ids(input_ids[:, :columns], mask[:, :columns], kwargs)
        if positions is None:
            positions = (mask.long().cumsum(1) - 1).clamp_min(0)
        prompt, _, embeds, positions = self._pack(
            input_ids[:, :columns], mask[:, :columns], positions[..., :columns], pruned, input_ids.shape[0] // batch
        )
        if cache is None and kwargs.get("use_cache"):
            cache = empty_cache(self)
        remember(cache, prompt)
        if pruned.assisted:
            roll_back_in_columns(cache, prompt)
        if input_ids.shape[1] > columns:
            later = prompt.later_positions(mask, input_ids.shape[1] - columns)
            embeds = torch.cat([embeds, self.get_input_embeddings()(input_ids[:, columns:]).to(embeds)], dim=1)
            positions = torch.cat([positions, self._rope_rows(later)], dim=-1)
        return self._step_inputs(input_ids, cache, prompt.pack_mask(mask), positions, kwargs, inputs_embeds=embeds)

    def _later_inputs(self, input_ids, cache, attention_mask, prompt: PrunedPrompt, kwargs: dict) -> dict:
        """The tokens that are not in the cache yet."""
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        new = input_ids[:, cached_length(cache) + prompt.dropped :]
        positions = self._rope_rows(prompt.later_positions(mask, new.shape[1]))
        return self._step_inputs(new, cache, prompt.pack_mask(mask), positions, kwargs)

    def _step_inputs(self, input_ids, cache, mask, positions, kwargs: dict, **embeds) -> dict:
        visual = {name for names in self.visual_inputs.values() for name in names}
        rest = {
            k: v
            for k, v in kwargs.items()
            if k not in {*REPLACED, *visual, "next_sequence_length", "is_first_iteration"}
        }
        inputs = generic_inputs(
            self, input_ids, cached_length(cache), rest.pop("cache_position", None),
            past_key_values=cache, attention_mask=mask, **embeds, **rest,
        )  # fmt: skip
        inputs["position_ids"] = positions
        return inputs

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
        keep = pruned.keep.repeat_interleave(copies, 0) & mask.bool()
        packed = PackedRows.from_keep(keep, padding=int(self._positions_reach_attention()))
        ids, real = packed.take(input_ids)[::copies], packed.mask[::copies].bool()
        embeds = self.get_input_embeddings()(ids)
        for token_id, features in pruned.features.items():
            spots = ((ids == token_id) & real)[..., None].to(embeds.device)
            embeds = embeds.masked_scatter(spots, features.to(embeds))
        if self.config.zspa_position_ids == "compact":
            positions = (packed.mask.cumsum(1) - 1).clamp_min(0)
            next_position = packed.mask.sum(1, keepdim=True)
        else:
            positions = positions[-self.rope_rows :] if self.rope_rows else positions
            positions = positions.expand(*positions.shape[:-2], *keep.shape)
            last = positions.masked_fill(mask == 0, -1).amax(-1, keepdim=True)
            next_position = (last.amax(0) if self.rope_rows else last) + 1
            positions = packed.take(positions)
        prompt = PrunedPrompt(keep.shape[1], packed.mask, packed.padded, next_position)
        return prompt, packed, embeds.repeat_interleave(copies, 0), positions

    def _positions_reach_attention(self) -> bool:
        """Flash attention takes gaps in one row of positions for packed sequences, unless the mask has a 0 in it."""
        implementation = self.config.get_text_config()._attn_implementation or ""
        return "flash" in implementation and self.rope_rows is None

    def _get_candidate_generator(self, *args, model_kwargs, assistant_model=None, **kwargs):
        """An assistant encodes the images itself, and is given only what it takes."""
        model_kwargs = dict(model_kwargs)
        pruned = model_kwargs.pop("zspa_prompt", None)
        if pruned is not None:
            pruned.assisted = True
        if assistant_model is not None:
            check_assistant(assistant_model)
            takes = {*inspect.signature(assistant_model.forward).parameters}
            takes |= {*inspect.signature(assistant_model.prepare_inputs_for_generation).parameters}
            visual = {k: v for k, v in (pruned.inputs if pruned else {}).items() if k in takes}
            if pruned is not None:
                model_kwargs.pop("mm_encoder_outputs", None)
            model_kwargs = {k: v for k, v in model_kwargs.items() if k not in CALL_ARGUMENTS} | visual
        return super()._get_candidate_generator(
            *args, model_kwargs=model_kwargs, assistant_model=assistant_model, **kwargs
        )

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
        if not self._has_visuals(kwargs):
            return stock_forward(**self._continued(kwargs))
        pruner = self._pruner(call["visual_token_pruner"], call["zspa_keep_ratio"], call["zspa_core_ratio"])
        return stock_forward(**kwargs) if pruner is None else self._forward_pruned(stock_forward, pruner, kwargs)

    def _forward_pruned(self, stock_forward, pruner, kwargs: dict):
        input_ids, mask, cache = (kwargs.pop(k, None) for k in ("input_ids", "attention_mask", "past_key_values"))
        if cached_length(cache):
            raise ValueError("images after a filled cache cannot be pruned: pass the whole prompt, or keep ratio 1.0")
        pruned = self._prune_visuals(input_ids, mask, pruner, kwargs)
        mask = torch.ones_like(input_ids) if mask is None else mask
        positions = kwargs.pop("position_ids", None)
        if positions is None:
            positions = self.full_position_ids(input_ids, mask, kwargs)
        if positions is None:
            positions = torch.arange(input_ids.shape[1], device=input_ids.device).expand_as(input_ids)
        prompt, packed, embeds, positions = self._pack(input_ids, mask, positions, pruned)
        labels = kwargs.pop("labels", None)
        wanted, first = self._wanted_places(packed.places(pruned.keep & mask.bool()), kwargs.pop("logits_to_keep", 0))
        if labels is not None:
            wanted, first = wanted + first, 0
            kwargs["labels"] = packed.take_labels(labels)
        visual = {name for names in self.visual_inputs.values() for name in names}
        rest = {k: v for k, v in kwargs.items() if k not in {*REPLACED, *visual, "cache_position", "return_dict"}}
        outputs = stock_forward(
            inputs_embeds=embeds, attention_mask=packed.mask, position_ids=positions, past_key_values=cache,
            logits_to_keep=packed.mask.shape[1] - first, return_dict=True, **rest,
        )  # fmt: skip
        outputs.logits = outputs.logits.gather(1, wanted[..., None].expand(-1, -1, outputs.logits.shape[-1]))
        remember(outputs.past_key_values, prompt)
        return outputs if kwargs.get("return_dict", True) is not False else outputs.to_tuple()

    @staticmethod
    def _wanted_places(places: Tensor, logits_to_keep: int | Tensor) -> tuple[Tensor, int]:
        """The packed places `(batch, w)` whose logits are asked for, counted from the first of them, and that first."""
        whole = isinstance(logits_to_keep, int)
        wanted = places[:, -logits_to_keep:] if whole else places[:, logits_to_keep.to(places.device)]
        first = int(wanted.min())
        return wanted - first, first

    def _continued(self, kwargs: dict) -> dict:
        """Arguments of a step after a pruned prompt, where the caller counts in columns; `generate` never does."""
        cache, mask = kwargs.get("past_key_values"), kwargs.get("attention_mask")
        positions = kwargs.get("position_ids")
        made_by_generate = mask is not None and getattr(mask, "ndim", None) != 2  # 4D, or a dict of such masks
        if made_by_generate or (prompt := pruned_prompt_of(cache)) is None:
            return kwargs
        tokens = kwargs["input_ids"] if kwargs.get("input_ids") is not None else kwargs["inputs_embeds"]
        batch, count = tokens.shape[:2]
        cached = cached_length(cache)
        if mask is None:
            if positions is not None and not prompt.padded:
                return kwargs
            mask = prompt.mask.new_ones(batch, cached + prompt.dropped + count)
        if mask.shape[1] == cached + count:
            if positions is not None:
                return kwargs
            mask = torch.cat([mask.new_ones(batch, prompt.columns), mask[:, prompt.mask.shape[1] :]], dim=1)
        if mask.shape[1] != cached + prompt.dropped + count:
            raise ValueError(
                f"attention_mask has {mask.shape[1]} columns, but must have {cached + prompt.dropped + count}, one "
                "for each token of the unpruned sequence so far"
            )
        positions = self._rope_rows(prompt.later_positions(mask, count))
        kwargs = kwargs | {"attention_mask": prompt.pack_mask(mask), "position_ids": positions}
        if kwargs.get("cache_position") is not None:
            kwargs["cache_position"] = torch.arange(cached, cached + count, device=mask.device)
        return kwargs
