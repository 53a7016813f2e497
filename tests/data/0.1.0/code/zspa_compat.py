"""What the supported transformers versions do differently; each function says why it is there."""

import inspect
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor
from transformers import Cache, DynamicCache
from transformers.generation import AssistedCandidateGenerator, GenerationMixin

from .zspa_prefill import PrunedPrompt, cached_length

try:
    from transformers.conversion_mapping import (
        get_checkpoint_conversion_mapping,
        register_checkpoint_conversion_mapping,
    )
except ImportError:  # 4.x: the mapping is inherited with the class
    register_checkpoint_conversion_mapping = None


# 5.24 renamed the argument that the cache is passed by, and the output that it comes back in.
_CACHE_NAMES = ("cache", "past_key_values")
_GENERIC_ARGUMENTS = inspect.signature(GenerationMixin.prepare_inputs_for_generation).parameters
_CACHE_NAME = next(name for name in _CACHE_NAMES if name in _GENERIC_ARGUMENTS)


def cache_argument(cache) -> dict:
    """The cache, which may be None, as a keyword argument."""
    return {_CACHE_NAME: cache}


def cache_of(outputs):
    """The cache among a model's outputs, or None."""
    return getattr(outputs, _CACHE_NAME)


def take_cache(kwargs: dict):
    """Takes the cache out of a call's arguments, under either of its names.

    Raises:
        ValueError: there are two, or one under a name not known here, which pruning would silently pass by.
    """
    given = [kwargs.pop(name, None) for name in _CACHE_NAMES]
    found = [cache for cache in given if cache is not None]
    if len(found) == 2:
        raise ValueError("a cache was given twice, as cache and as past_key_values: leave one of them out")
    unknown = [name for name, value in kwargs.items() if isinstance(value, Cache)]
    if unknown:
        raise ValueError(
            f"a cache was given as {unknown[0]}, which this checkpoint's code does not know: use a version of "
            "transformers it was tested with, or zspa_keep_ratio=1.0"
        )
    return found[0] if found else None


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


def generic_inputs(model, input_ids: Tensor, cache, cache_position: Tensor | None, **kwargs) -> dict:
    """Prepares generation inputs as for any text model; a family's own preparation would redo positions and pixels.

    Up to 5.0 `generate` counts the places of a step in the cache by `cache_position`, which has to be in the terms of
    the shorter cache; later versions neither pass nor take it.
    """
    generic, past_length = GenerationMixin.prepare_inputs_for_generation, cached_length(cache)
    if cache_position is not None:
        embeds = kwargs.get("inputs_embeds")
        length = input_ids.shape[1] if embeds is None else embeds.shape[1]
        kwargs["cache_position"] = torch.arange(past_length, past_length + length, device=cache_position.device)
    if "is_first_iteration" in _GENERIC_ARGUMENTS:
        kwargs["is_first_iteration"] = past_length == 0
    return generic(model, input_ids, **cache_argument(cache), **kwargs)


def counted_positions(model, inputs_tensor: Tensor, model_kwargs: dict) -> Tensor:
    """Positions as any text model counts them; 5.x prepares them once per call, 4.x never asks."""
    return GenerationMixin._prepare_position_ids_for_generation(model, inputs_tensor, model_kwargs)


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
