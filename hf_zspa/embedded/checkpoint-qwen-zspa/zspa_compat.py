"""What the supported transformers versions do differently; each function says why it is there."""

import inspect
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.generation import AssistedCandidateGenerator, GenerationMixin

from .zspa_prefill import PrunedPrompt

try:
    from transformers.conversion_mapping import (
        get_checkpoint_conversion_mapping,
        register_checkpoint_conversion_mapping,
    )
except ImportError:  # 4.x: the mapping is inherited with the class
    register_checkpoint_conversion_mapping = None


def register_key_mapping(cls: type, stock: type) -> None:
    """Lets checkpoints in the old key layout load: 5.x maps keys by class name, for custom classes only on request."""
    if register_checkpoint_conversion_mapping is None:
        return
    model_type = stock.config_class.model_type
    mapping = get_checkpoint_conversion_mapping(stock.__name__) or get_checkpoint_conversion_mapping(model_type)
    if mapping is not None:
        register_checkpoint_conversion_mapping(cls.__name__, mapping, overwrite=True)


def feature_list(features) -> list[Tensor]:
    """Visual features as one `(n_i, d)` per image: late 5.x wraps them in an output object, 4.x returns them bare."""
    return list(getattr(features, "pooler_output", features))


@contextmanager
def loaded(module):
    """Loads what accelerate keeps elsewhere until a module's `forward`: features are encoded outside of it."""
    hook = getattr(module, "_hf_hook", None)
    if hook is not None:
        hook.pre_forward(module)
    try:
        yield
    finally:
        if hook is not None:
            hook.post_forward(module, ())


def named_arguments(function, kwargs: dict) -> dict:
    """The entries of `kwargs` that `function` names as parameters; they differ between versions."""
    names = inspect.signature(function).parameters
    return {name: value for name, value in kwargs.items() if name in names}


def generic_inputs(model, input_ids: Tensor, past_length: int, cache_position: Tensor | None, **kwargs) -> dict:
    """Prepares generation inputs as for any text model; a family's own preparation would redo positions and pixels.

    Up to 5.0 `generate` counts the places of a step in the cache by `cache_position`, which has to be in the terms of
    the shorter cache; later versions neither pass nor take it.
    """
    generic = GenerationMixin.prepare_inputs_for_generation
    if cache_position is not None:
        embeds = kwargs.get("inputs_embeds")
        length = input_ids.shape[1] if embeds is None else embeds.shape[1]
        kwargs["cache_position"] = torch.arange(past_length, past_length + length, device=cache_position.device)
    first_iteration = named_arguments(generic, {"is_first_iteration": past_length == 0})
    return generic(model, input_ids, **first_iteration, **kwargs)


def empty_cache(model) -> DynamicCache:
    """A cache for a first step without one: in assisted decoding 5.0 leaves it to the model, too late to be tied to."""
    return DynamicCache(config=model.config.get_text_config(decoder=True))


def check_assistant(assistant) -> None:
    """Refuses a pruning assistant on 5.0, which prepares its inputs twice, the second time from the pruned ones.

    Raises:
        ValueError: `assistant` would prune and this transformers cannot drive it.
    """
    prepares_twice = "is_first_iteration" in inspect.signature(AssistedCandidateGenerator.get_candidates).parameters
    if prepares_twice and hasattr(assistant, "select_visual_tokens") and assistant.config.zspa_keep_ratio < 1:
        raise ValueError(
            "this version of transformers cannot drive an assistant that prunes: set zspa_keep_ratio of the "
            "assistant's config to 1.0, or use transformers 5.10 or later, or 4.57"
        )


def roll_back_in_columns(cache, prompt: PrunedPrompt) -> None:
    """Makes `cache.crop(n)` take lengths of the full sequence, to which assisted decoding crops before 5.23."""
    cache.crop = partial(_crop, cache, prompt)


def _crop(cache, prompt: PrunedPrompt, max_length: int) -> None:
    if max_length >= prompt.columns:
        max_length -= prompt.dropped
    type(cache).crop(cache, max_length)
