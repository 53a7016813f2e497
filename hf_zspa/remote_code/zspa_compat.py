"""What the supported transformers versions do differently; each function says why it is there."""

import functools
import inspect
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import Cache, DynamicCache
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
# Arguments with an entry for each column of the prompt, as `generate` knows them.
COLUMN_ARGUMENTS = ("token_type_ids", "mm_token_type_ids", "moe_mm_token_type_ids")
MODALITIES = ("image", "video")


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

    A static cache of 4.57 and 5.0 counts the keys of its first row that are not zero, and padding may embed to zero.
    """
    if cache is None:
        return 0
    layer = cache.layers[0] if _GENERATE_COUNTS_PLACES and getattr(cache, "layers", None) else None
    if layer is not None and layer.is_compileable and layer.is_initialized and not layer.is_sliding:
        return int(layer.keys.any(dim=-1).flatten(0, 1).any(dim=0).sum())
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


# ------------------------------------------------------------------------------------------- the encoder's output


def encoder_arguments(base) -> dict[str, tuple[str, ...]]:
    """Modality → the arguments of `get_<modality>_features` of a base model, the pixels first."""
    found = {}
    for modality in MODALITIES:
        encode = getattr(base, f"get_{modality}_features", None)
        if encode is not None:
            parameters = inspect.signature(encode).parameters
            names = [name for name, p in parameters.items() if p.kind is not p.VAR_KEYWORD]
            # 4.57's LLaVA hands it on without naming it.
            unnamed = ["image_sizes"] if len(names) < len(parameters) and "image_sizes" not in names else []
            others = ("return_dict", "output_hidden_states", "output_attentions")
            found[modality] = tuple(name for name in names + unnamed if name not in others)
    return found


def feature_list(output) -> list[Tensor]:
    """Visual features as one `(n_i, d)` per image: late 5.x wraps them in an output object, 4.x returns them bare."""
    return list(getattr(output, "pooler_output", output))


def shorter_output(output, indices: list[Tensor] | None = None, order: list[int] | None = None) -> Any:
    """An encoder's output with the kept tokens only, in the types of the stock class.

    Args:
        indices: per image the tokens to keep `(l_i,)`; None keeps all.
        order: the images to keep, in their new order, which may repeat some; None keeps all.
    """

    def cut(features):
        images = list(features) if indices is None else [f[i.to(f.device)] for f, i in zip(features, indices)]
        images = images if order is None else [images[i] for i in order]
        if not isinstance(features, Tensor):
            return images
        return torch.stack(images) if len({len(image) for image in images}) == 1 else torch.cat(images)[None]

    if not hasattr(output, "pooler_output"):
        return cut(output)
    shorter = type(output)(pooler_output=cut(output.pooler_output))
    layers = getattr(output, "deepstack_features", None)
    if layers is not None:
        shorter.deepstack_features = [cut(layer) for layer in layers]
    return shorter


class Encoded:
    """Stands for pixels that are encoded already, in a call of a model that encodes them itself."""

    def __init__(self, output):
        self.output = output

    def size(self, dim: int) -> int:
        return len(feature_list(self.output))


class HandedOver(dict):
    """Encoder outputs of a prompt that is packed already."""


def hand_over(base, outputs: dict[str, Any]) -> dict[str, Any]:
    """The arguments by which a base model is given what its encoder would return, by modality.

    From 5.19 on they are `mm_encoder_outputs`. Before, the model is given `Encoded` pixels, and `answered` is how it
    gets them back when it asks for features.
    """
    if "mm_encoder_outputs" in inspect.signature(base.forward).parameters:
        return {"mm_encoder_outputs": HandedOver(outputs)}
    return {base.visual_inputs[modality][0]: Encoded(output) for modality, output in outputs.items()}


def is_handed_over(kwargs: dict) -> bool:
    """Whether a call's visual tokens are those that `hand_over` has handed over."""
    return any(isinstance(value, (Encoded, HandedOver)) for value in kwargs.values())


def as_output() -> dict[str, Any]:
    """What makes features come back as an output object, whatever the config asks for; on 4.x they are none."""
    return {} if register_checkpoint_conversion_mapping is None else {"return_dict": True}


def answered(get_features):
    """`get_image_features` or `get_video_features` of a base model, with `Encoded` pixels answered at once."""

    @functools.wraps(get_features)
    def get(self, *args, **kwargs):
        known = [value.output for value in (*args, *kwargs.values()) if isinstance(value, Encoded)]
        return known[0] if known else get_features(self, *args, **kwargs)

    return get


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
