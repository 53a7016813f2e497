"""What the supported transformers versions do differently; each function says why it is there."""

import inspect

import torch
from torch import Tensor
from transformers import Cache, DynamicCache, __version__
from transformers.generation import AssistedCandidateGenerator, GenerationMixin

try:
    from transformers.conversion_mapping import (
        get_checkpoint_conversion_mapping,
        register_checkpoint_conversion_mapping,
    )
except ImportError:  # 4.x: the mapping is inherited with the class
    register_checkpoint_conversion_mapping = None
try:
    from transformers.utils.output_capturing import _CAN_RECORD_REGISTRY
except ImportError:
    from transformers.utils.generic import _CAN_RECORD_REGISTRY

# 5.24 renamed the argument that the cache is passed by, and the output that it comes back in.
_CACHE_NAMES = ("cache", "past_key_values")
_GENERIC_ARGUMENTS = inspect.signature(GenerationMixin.prepare_inputs_for_generation).parameters
_CACHE_NAME = next(name for name in _CACHE_NAMES if name in _GENERIC_ARGUMENTS)
# Up to 5.0 `generate` counts the places of a step in the cache, and positions are made anew at each step.
_GENERATE_COUNTS_PLACES = "cache_position" in _GENERIC_ARGUMENTS
# 4.x returns features bare.
HAS_OUTPUT_OBJECTS = register_checkpoint_conversion_mapping is not None
# Arguments with an entry for each column of the prompt, as `generate` knows them.
COLUMN_ARGUMENTS = ("token_type_ids", "mm_token_type_ids", "moe_mm_token_type_ids")


def to_device(counted: Tensor, device: torch.device) -> Tensor:
    """What was counted on the CPU, on its way to `device`."""
    if device.type == "cuda":
        counted = counted.pin_memory()  # else the copy may wait for what the GPU does
    return counted.to(device, non_blocking=True)


def check_version(first: str) -> None:
    """Raises `ValueError` where this is an earlier version of transformers than `first`, such as "5.19"."""
    here, needed = ([int(part) for part in version.split(".")[:2]] for version in (__version__, first))
    if here < needed:
        raise ValueError(
            f"transformers {__version__} cannot prune this family of models exactly: use {first} or later, or set "
            "zspa_keep_ratio to 1.0, which is the stock, unpruned model"
        )


def cache_argument(cache) -> dict:
    """The cache, which may be None, as a keyword argument."""
    return {_CACHE_NAME: cache}


def cache_of(outputs):
    """The cache among a model's outputs, or None."""
    return getattr(outputs, _CACHE_NAME)


def find_cache(kwargs: dict):
    """The cache among a call's arguments, under either of its names, or None.

    Raises:
        ValueError: there are two, or one under a name not known here, which pruning would silently pass by.
    """
    found = [kwargs[name] for name in _CACHE_NAMES if kwargs.get(name) is not None]
    if len(found) == 2:
        raise ValueError("a cache was given twice, as cache and as past_key_values: leave one of them out")
    unknown = [name for name, value in kwargs.items() if isinstance(value, Cache) and name not in _CACHE_NAMES]
    if unknown:
        raise ValueError(
            f"a cache was given as {unknown[0]}, which this checkpoint's code does not know: use a version of "
            "transformers it was tested with, or zspa_keep_ratio=1.0"
        )
    return found[0] if found else None


def cached_length(cache) -> int:
    """Tokens in `cache`, which may be None.

    A static cache of 4.57 and 5.0 counts the keys of its first row that are not zero, and padding may embed to zero:
    the last column in which any row has one tells.
    """
    if cache is None:
        return 0
    layer = cache.layers[0] if _GENERATE_COUNTS_PLACES and getattr(cache, "layers", None) else None
    if layer is not None and layer.is_compileable and layer.is_initialized and not layer.is_sliding:
        filled = layer.keys.any(dim=-1).flatten(0, 1).any(dim=0).nonzero()
        return int(filled[-1]) + 1 if len(filled) else 0
    return int(cache.get_seq_length())


def turn_into(module, cls: type) -> None:
    """Makes `module`, of the stock class that `cls` derives from, one of `cls`: a generating class of transformers
    builds its base model itself. What a class can record is looked up by its name."""
    module.__class__ = cls
    key = str(cls) if type(_CAN_RECORD_REGISTRY) is dict else module
    _CAN_RECORD_REGISTRY[key] = module._can_record_outputs


def register_key_mapping(cls: type, stock: type) -> None:
    """Lets checkpoints in the old key layout load: 5.x maps keys by class name, for custom classes only on request."""
    if register_checkpoint_conversion_mapping is None:
        return
    mapping = get_checkpoint_conversion_mapping(stock.__name__)
    if mapping is None and hasattr(stock, "generate"):  # a base model's own is found by its class alone
        mapping = get_checkpoint_conversion_mapping(stock.config_class.model_type)
    if mapping is not None:
        register_checkpoint_conversion_mapping(cls.__name__, mapping, overwrite=True)


# ------------------------------------------------------------------------------------------------------ generation


def named_arguments(function, kwargs: dict) -> dict:
    """The entries of `kwargs` that `function` names as parameters; they differ between versions."""
    names = inspect.signature(function).parameters
    return {name: value for name, value in kwargs.items() if name in names}


def prepare_step(prepare, input_ids: Tensor, cached: int, positions: Tensor, **kwargs) -> dict:
    """Inputs of a step from the stock class's own preparation, on input that holds just the step's columns.

    Args:
        prepare: the stock class's `prepare_inputs_for_generation`.
        cached: tokens in the cache.
        positions: `(batch, length)` or `(3, batch, length)`.
    """
    kwargs = kwargs | {"is_first_iteration": cached == 0}
    if not _GENERATE_COUNTS_PLACES:
        return prepare(input_ids, position_ids=positions, **kwargs)
    if "is_first_iteration" not in _GENERIC_ARGUMENTS:
        del kwargs["is_first_iteration"]
    kwargs["cache_position"] = torch.arange(cached, cached + input_ids.shape[1], device=input_ids.device)
    row = positions if positions.ndim == 2 else positions[0]  # the first dimension is all it slices
    return prepare(input_ids, position_ids=row, **kwargs) | {"position_ids": positions}


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
