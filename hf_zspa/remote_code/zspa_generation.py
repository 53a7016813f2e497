"""Pruning in `generate`: the prompt on the first step, the books on the later ones."""

import inspect

import torch

from .zspa_cache import forget_if_empty, memory_of, pruned_prompt_of, remember
from .zspa_calling import selecting
from .zspa_compat import (
    COLUMN_ARGUMENTS,
    cache_argument,
    cached_length,
    check_assistant,
    counted_positions,
    empty_cache,
    find_cache,
    prepare_step,
)
from .zspa_config import CALL_ARGUMENTS, take_call
from .zspa_forward import ZspaForwardMixin, wrap_stock_methods
from .zspa_prefill import PrunedVisuals


class ZspaGenerationMixin(ZspaForwardMixin):
    """Prunes the prompt of a generation. It comes before the stock class in the bases of a family's model.

    What was selected is made once per call and handed on as `zspa_prompt`; what later steps must know lives on the
    cache. Nothing is kept on the model, so that generations cannot disturb each other.
    """

    _auto_class = "AutoModelForImageTextToText"  # what is saved brings its code along, however it was loaded

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        wrap_stock_methods(cls, ZspaGenerationMixin, selecting)

    @torch.no_grad()
    def generate(self, inputs=None, *args, **kwargs):
        """`GenerationMixin.generate`, on a pruned prompt. The output starts with the full prompt, as always.

        Keyword Args:
            visual_token_pruner: a `VisualTokenPruner` for this call, in place of the one the config describes.
            zspa_keep_ratio, zspa_method, zspa_core_ratio, zspa_relevance_weight, zspa_pooling, zspa_centre: for this
                call, in place of the fields of these names in the config.

        Raises:
            ValueError: a setting or field is outside its range, or given though the method does not read it; the images
                do not fit the prompt; or the call has images after a filled cache, `inputs_embeds` with images, or
                `prefill_chunk_size`, none of which can be pruned.
            TypeError: `visual_token_pruner` is not one.
        """
        pruner = self.pruner_for_call(**take_call(kwargs))
        input_ids = kwargs.get("input_ids") if inputs is None else inputs
        cache = find_cache(kwargs)
        visuals = self._has_visuals(kwargs)
        if cached_length(cache):
            if self._continues_pruned(input_ids, cache, pruner, kwargs):
                kwargs = self._without_pixels(kwargs)
        elif visuals and pruner is not None:
            pruned = self.prune_for_generation(input_ids, kwargs.get("attention_mask"), pruner, kwargs)
            kwargs = self._without_pixels(kwargs) | {"zspa_prompt": pruned}
        if visuals and pruner is None:
            kwargs["zspa_keep_ratio"] = 1.0
        return super().generate(inputs, *args, **kwargs)

    def generate_batch(self, *args, **kwargs):
        """`generate_batch` of the stock class, which answers texts alone and passes images by.

        Raises:
            ValueError: it is given images, or a setting of pruning.
        """
        settings = [name for name, value in take_call(dict(kwargs)).items() if value is not None]
        if settings or self._has_visuals(kwargs):
            raise ValueError(
                f"generate_batch answers texts alone, and would pass {', '.join(settings) or 'the images'} by: use "
                "generate, or serve the checkpoint with vLLM"
            )
        return super().generate_batch(*args, **kwargs)

    def prune_for_generation(self, input_ids, attention_mask, pruner, call) -> PrunedVisuals:
        """What `prepare_inputs_for_generation` takes as `zspa_prompt`: `prune_visuals`, with the positions of the full
        prompt."""
        pruned = self.prune_visuals(input_ids, attention_mask, pruner, call)
        if call.get("position_ids") is None:
            pruned.positions = self._rope_positions(pruned.described, input_ids.device)
        return pruned

    def _prepare_cache_for_generation(self, generation_config, model_kwargs, mode, batch_size, max_cache_length):
        """A static cache is allocated in the length of the pruned prompt and what may follow it."""
        pruned = model_kwargs.get("zspa_prompt")
        if pruned is not None:
            columns = pruned.keep.shape[1]
            max_cache_length -= columns - min(columns, pruned.width + int(self._is_flash()))
        return super()._prepare_cache_for_generation(
            generation_config, model_kwargs, mode, batch_size, max_cache_length
        )

    def _prepare_position_ids_for_generation(self, inputs_tensor, model_kwargs):
        """Counted along the rows: a pruned prompt has its own, and what the stock class makes of it would be unused."""
        pruned = model_kwargs.get("zspa_prompt")
        own = pruned is not None and pruned.positions is not None
        if own or pruned_prompt_of(find_cache(model_kwargs)) is not None:
            return counted_positions(self, inputs_tensor, model_kwargs)
        return super()._prepare_position_ids_for_generation(inputs_tensor, model_kwargs)

    def _continues_pruned(self, input_ids, cache, pruner, call) -> bool:
        """Whether `cache` holds a pruned prompt; checks that what follows is text and can be told from the prompt."""
        prompt = pruned_prompt_of(cache)
        if pruner is None and prompt is None:
            return False
        start = cached_length(cache) + (prompt.dropped if prompt else 0)
        config = call.get("generation_config") or self.generation_config
        columns = 0 if input_ids is None else input_ids.shape[1]
        if prompt and getattr(config, "is_assistant", False) and prompt.columns < columns <= start:
            cache.crop(columns - 1 - start)  # proposals that the target did not take
            start = columns - 1
        if prompt and columns <= start:
            raise ValueError(
                f"the cache stands for {start} tokens of a pruned conversation: pass input_ids of the whole "
                "conversation, with the new turn after them"
            )
        if input_ids is not None and self._is_placeholder(input_ids[:, start:]).any():
            raise ValueError(
                "a new image after a filled cache cannot be pruned: pass the whole conversation without a cache"
                + ("" if prompt else ", or zspa_keep_ratio=1.0")
            )
        if prompt and call.get("prefill_chunk_size", getattr(config, "prefill_chunk_size", None)):
            raise ValueError("a turn after a pruned one cannot be prefilled in chunks: leave out prefill_chunk_size")
        return prompt is not None

    def prepare_inputs_for_generation(
        self,
        input_ids,
        attention_mask=None,
        inputs_embeds=None,
        zspa_prompt: PrunedVisuals | None = None,
        zspa_keep_ratio=None,
        **kwargs,
    ):
        """Inputs of one step. The first step is the one that finds an empty cache; it runs on the pruned prompt.

        Args:
            zspa_prompt: what `generate` selected, once per call; None selects here, from the pixels in `kwargs`.
        """
        call = take_call(kwargs) | {"zspa_keep_ratio": zspa_keep_ratio}
        cache = find_cache(kwargs)
        prompt = pruned_prompt_of(cache)
        if cached_length(cache) == 0:
            forget_if_empty(cache)
            if zspa_prompt is None and self._has_visuals(kwargs):
                pruner = self.pruner_for_call(**call)
                if pruner is not None:
                    zspa_prompt = self.prune_for_generation(input_ids, attention_mask, pruner, kwargs)
            if zspa_prompt is not None:
                return self._first_inputs(input_ids, cache, attention_mask, zspa_prompt, kwargs)
        elif prompt is not None:
            return self._later_inputs(input_ids, cache, attention_mask, prompt, kwargs)
        if zspa_keep_ratio is not None and self._has_visuals(kwargs):
            kwargs["zspa_keep_ratio"] = zspa_keep_ratio
        inputs = super().prepare_inputs_for_generation(
            input_ids, attention_mask=attention_mask, inputs_embeds=inputs_embeds, **kwargs
        )
        return _of_this_step(inputs)

    def _first_inputs(self, input_ids, cache, attention_mask, pruned: PrunedVisuals, kwargs: dict) -> dict:
        """The pruned prompt, and behind it the tokens that a step without a cache, or with candidates, has already."""
        batch, columns = pruned.keep.shape
        if input_ids.shape[1] < columns:
            raise ValueError(
                f"a prompt of {columns} tokens arrived in a piece of {input_ids.shape[1]}: a pruned prompt cannot be "
                "prefilled in chunks; leave out prefill_chunk_size, or set zspa_keep_ratio to 1.0"
            )
        positions = kwargs.get("position_ids")
        if pruned.positions is not None:
            positions = pruned.positions.repeat_interleave(input_ids.shape[0] // batch, 1)
        if positions is None:
            mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
            positions = (mask.long().cumsum(1) - 1).clamp_min(0)
        packed = self.pack(input_ids, attention_mask, positions[..., :columns], pruned, kwargs)
        if cache is None and kwargs.get("use_cache", getattr(self.config.get_text_config(), "use_cache", True)):
            cache = empty_cache(self)
        remember(cache, packed.prompt)
        return self._step_inputs(cache, packed.prompt, attention_mask, kwargs, **packed.inputs | packed.visuals)

    def _later_inputs(self, input_ids, cache, attention_mask, prompt, kwargs: dict) -> dict:
        """The tokens that are not in the cache yet."""
        batch, columns = input_ids.shape
        new = input_ids[:, cached_length(cache) + prompt.dropped :]
        positions = prompt.later_positions(attention_mask, batch, columns, new.shape[1])
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        return self._step_inputs(
            cache, prompt, attention_mask, kwargs, input_ids=new, attention_mask=prompt.pack_mask(mask),
            position_ids=positions,
        )  # fmt: skip

    def _step_inputs(self, cache, prompt, given_mask, kwargs: dict, input_ids, position_ids, **packed) -> dict:
        """A step as the stock class prepares it.

        The mask is None where nothing is masked and `generate` has seen that, so that attention need not look at one,
        which waits for a GPU. Without a cache gaps in the positions would count as packed samples if there were none.
        """
        if given_mask is None and not prompt.padded and cache is not None:
            packed["attention_mask"] = None
        left_out = ("position_ids", "next_sequence_length", "is_first_iteration", "cache_position")
        rest = {name: value for name, value in self._without_pixels(kwargs).items() if name not in left_out}
        inputs = prepare_step(
            super().prepare_inputs_for_generation, input_ids, cached_length(cache), position_ids,
            **rest | cache_argument(cache) | packed,
        )  # fmt: skip
        return _of_this_step(inputs) | {"zspa_packed": True}

    @staticmethod
    def carry_pruned_prompt(source, target) -> None:
        """Tells `target`, a cache made of the tensors of the cache `source`, of the pruned prompt in it. Copies that
        `copy.deepcopy` and `pickle` make know it already.

        Raises:
            ValueError: there is no pruned prompt in `source`.
        """
        prompt = memory_of(source)
        if prompt is None:
            raise ValueError("the cache to carry from has no pruned prompt: give the one that the model has filled")
        remember(target, prompt)

    def _get_candidate_generator(self, *args, model_kwargs, assistant_model=None, **kwargs):
        """An assistant encodes the images itself, and is given only what it takes."""
        model_kwargs = dict(model_kwargs)
        pruned = model_kwargs.pop("zspa_prompt", None)
        if (pruned is not None and pruned.positions is not None) or memory_of(find_cache(model_kwargs)) is not None:
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


def _of_this_step(inputs: dict) -> dict:
    """Inputs without the token types of earlier steps, whose growing length would compile every step anew."""
    tokens = inputs.get("input_ids")
    if tokens is not None:
        for name in COLUMN_ARGUMENTS:
            if inputs.get(name) is not None and inputs[name].shape[-1] > tokens.shape[1]:
                inputs[name] = inputs[name][..., -tokens.shape[1] :].contiguous()  # strides are compiled for too
    return inputs
