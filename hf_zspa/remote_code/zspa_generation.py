"""Pruning in `generate`: the prompt on the first step, the books on the later ones."""

import inspect

import torch

from .zspa_compat import (
    cache_argument,
    check_assistant,
    counted_positions,
    empty_cache,
    generic_inputs,
    roll_back_in_columns,
    take_cache,
)
from .zspa_forward import CALL_ARGUMENTS, ZspaForwardMixin
from .zspa_prefill import (
    PrunedPrompt,
    PrunedVisuals,
    cached_length,
    forget_if_empty,
    pruned_prompt_of,
    remember,
)


class ZspaGenerationMixin(ZspaForwardMixin):
    """Prunes the prompt of a generation. It comes before the stock class in the bases of a family's model.

    What was selected is made once per call and handed on as `zspa_prompt`; what later steps must know lives on the
    cache. Nothing is kept on the model, so that generations cannot disturb each other.
    """

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
            ValueError: a ratio or field is outside its range, the images do not fit the prompt, or the call has
                images after a filled cache, `inputs_embeds` with images, `prefill_chunk_size`, or a sequence longer
                than a sliding window, none of which can be pruned.
            TypeError: `visual_token_pruner` is not one.
        """
        pruner = self.pruner_for_call(visual_token_pruner, zspa_keep_ratio, zspa_core_ratio)
        input_ids = kwargs.get("input_ids") if inputs is None else inputs
        cache = take_cache(kwargs)
        visuals = self._has_visuals(kwargs)
        if cached_length(cache):
            if self._continues_pruned(input_ids, cache, pruner):
                kwargs = self._without_pixels(kwargs)
        elif visuals and pruner is not None:
            pruned = self.prune_visuals(input_ids, kwargs.get("attention_mask"), pruner, kwargs)
            pruned.assisted = getattr(kwargs.get("generation_config"), "is_assistant", False)
            kwargs = self._without_pixels(kwargs) | {"zspa_prompt": pruned}
        if visuals and pruner is None:
            kwargs["zspa_keep_ratio"] = 1.0
        if cache is not None:
            kwargs |= cache_argument(cache)
        return super().generate(inputs, *args, **kwargs)

    def _prepare_cache_for_generation(self, generation_config, model_kwargs, mode, batch_size, max_cache_length):
        """A static cache is allocated in the length of the pruned prompt and what may follow it."""
        pruned = model_kwargs.get("zspa_prompt")
        if pruned is not None and pruned.width is not None:
            columns = pruned.keep.shape[1]
            max_cache_length -= columns - min(columns, pruned.width + int(self._positions_reach_attention()))
        return super()._prepare_cache_for_generation(
            generation_config, model_kwargs, mode, batch_size, max_cache_length
        )

    def _prepare_position_ids_for_generation(self, inputs_tensor, model_kwargs):
        """Counted along the rows: a pruned prompt has its own, and what the stock class makes of it would be unused."""
        pruned = model_kwargs.get("zspa_prompt")
        own = pruned is not None and pruned.positions is not None
        if own or pruned_prompt_of(take_cache(dict(model_kwargs))) is not None:
            return counted_positions(self, inputs_tensor, model_kwargs)
        return super()._prepare_position_ids_for_generation(inputs_tensor, model_kwargs)

    def _without_pixels(self, kwargs: dict) -> dict:
        pixels = [names[0] for names in self.visual_inputs.values()]
        return {name: value for name, value in kwargs.items() if name not in (*pixels, "mm_encoder_outputs")}

    def _continues_pruned(self, input_ids, cache, pruner) -> bool:
        """Whether `cache` holds a pruned prompt; checks that what follows is text and can be told from the prompt."""
        prompt = pruned_prompt_of(cache)
        if pruner is None and prompt is None:
            return False
        start = cached_length(cache) + (prompt.dropped if prompt else 0)
        if prompt and (input_ids is None or input_ids.shape[1] <= start):
            raise ValueError(
                f"the cache stands for {start} tokens of a pruned conversation: pass input_ids of the whole "
                "conversation, with the new turn after them"
            )
        placeholders = [getattr(self.config, f"{modality}_token_id") for modality in self.visual_inputs]
        new = input_ids[:, start:] if input_ids is not None else torch.empty(0)
        if torch.isin(new, torch.tensor(placeholders, device=new.device)).any():
            raise ValueError(
                "a new image after a filled cache cannot be pruned: pass the whole conversation without "
                "a cache, or zspa_keep_ratio=1.0"
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
        kwargs["past_key_values"] = past_key_values
        cache = take_cache(kwargs)
        prompt = pruned_prompt_of(cache)
        if cached_length(cache) == 0:
            forget_if_empty(cache)
            if zspa_prompt is None and self._has_visuals(kwargs):
                pruner = self.pruner_for_call(visual_token_pruner, zspa_keep_ratio, zspa_core_ratio)
                if pruner is not None:
                    zspa_prompt = self.prune_visuals(input_ids, attention_mask, pruner, kwargs)
            if zspa_prompt is not None:
                return self._first_inputs(input_ids, cache, attention_mask, zspa_prompt, kwargs)
        elif prompt is not None:
            return self._later_inputs(input_ids, cache, attention_mask, prompt, kwargs)
        if zspa_keep_ratio is not None:
            kwargs["zspa_keep_ratio"] = zspa_keep_ratio
        return super().prepare_inputs_for_generation(
            input_ids, attention_mask=attention_mask, **cache_argument(cache), **kwargs
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
        if pruned.positions is not None:
            positions = pruned.positions.repeat_interleave(input_ids.shape[0] // batch, 1)
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
        later = input_ids.shape[1] - columns
        if later:
            embeds = torch.cat([embeds, self.get_input_embeddings()(input_ids[:, columns:]).to(embeds)], dim=1)
            behind = self._rope_rows(self._later_positions(prompt, input_ids, attention_mask, later))
            positions = torch.cat([positions, behind], dim=-1)
        mask = self._packed_mask(prompt, input_ids, attention_mask, cache)
        return self._step_inputs(input_ids, cache, mask, positions, kwargs, inputs_embeds=embeds)

    def _later_inputs(self, input_ids, cache, attention_mask, prompt: PrunedPrompt, kwargs: dict) -> dict:
        """The tokens that are not in the cache yet."""
        self._check_window(input_ids.shape[1] if attention_mask is None else attention_mask.shape[1])
        new = input_ids[:, cached_length(cache) + prompt.dropped :]
        positions = self._rope_rows(self._later_positions(prompt, input_ids, attention_mask, new.shape[1]))
        mask = self._packed_mask(prompt, input_ids, attention_mask, cache)
        return self._step_inputs(new, cache, mask, positions, kwargs)

    @staticmethod
    def _later_positions(prompt: PrunedPrompt, input_ids, attention_mask, count: int):
        if attention_mask is None:
            return prompt.counted_positions(*input_ids.shape, count)
        return prompt.later_positions(attention_mask, count)

    @staticmethod
    def _packed_mask(prompt: PrunedPrompt, input_ids, attention_mask, cache):
        """None where nothing is masked and `generate` has seen that, so that attention need not look at a mask, which
        waits for a GPU. Without a cache transformers takes gaps in the positions for packed sequences if there is none.
        """
        if attention_mask is None and not prompt.padded and cache is not None:
            return None
        return prompt.pack_mask(torch.ones_like(input_ids) if attention_mask is None else attention_mask)

    def _step_inputs(self, input_ids, cache, mask, positions, kwargs: dict, **embeds) -> dict:
        rest = self._without_visuals(kwargs, "next_sequence_length", "is_first_iteration")
        inputs = generic_inputs(
            self, input_ids, cache, rest.pop("cache_position", None), attention_mask=mask, **embeds, **rest
        )  # fmt: skip
        return inputs | {"position_ids": positions, "zspa_packed": True}

    def _get_candidate_generator(self, *args, model_kwargs, assistant_model=None, **kwargs):
        """An assistant encodes the images itself, and is given only what it takes."""
        model_kwargs = dict(model_kwargs)
        pruned = model_kwargs.pop("zspa_prompt", None)
        if pruned is not None:
            pruned.assisted = True
        cache = take_cache(dict(model_kwargs))
        prompt = pruned_prompt_of(cache)
        if prompt is not None:
            roll_back_in_columns(cache, prompt)
        if prompt is not None or (pruned is not None and pruned.positions is not None):
            model_kwargs.pop("position_ids", None)  # counted along the rows; an assistant makes its own
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
