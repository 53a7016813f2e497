"""A model that prunes without a converted checkpoint: loaded from its base, or made of one that is loaded already."""

import copy
from importlib import import_module
from pathlib import Path
from types import MethodType
from typing import Any

import transformers

from ..checkpoints.base import (
    built_from,
    family_of,
    is_converted,
    known_family,
    other_files,
    read_config,
    weight_files,
)
from ..checkpoints.code_files import allowed_position_ids, code_entries
from ..checkpoints.families import FAMILIES, Family
from ..checkpoints.resolve import HUB_OPTIONS, checkpoint_folder, local_folder, with_weights
from ..checkpoints.write import check_field_names, fields_found, stock_fields
from ..remote_code.zspa_compat import turn_into
from ..remote_code.zspa_config import FIELDS, OTHER_ENTRIES, check_fields, check_names, meant_by
from ..remote_code.zspa_encoder import encoder_arguments
from ..version import __version__

_OF_LOADING = ("attn_implementation", "dtype", "quantization_config", "torch_dtype")  # though configs have them, too


def from_pretrained(base: str | Path, *, revision: str | None = None, **options: Any):
    """A stock checkpoint as a model that prunes. Its weights are read where they are, and nothing is written.

    The class is the one that a converted checkpoint has. `save_pretrained` and `push_to_hub` of the model make such a
    checkpoint, beside which the processor is to be saved, too.

    Args:
        base: folder or Hub id of a stock checkpoint of a supported family. Of a converted one the fields are kept; its
            code is not run, but this package's.
        revision: branch, tag or commit of a Hub id.
        options: `zspa_*` fields of the config in place of their defaults, and what transformers' `from_pretrained`
            takes: `dtype`, `device_map`, `quantization_config`, `attn_implementation`, entries of the config (of one of
            its parts as a dict)...

    Returns:
        The model, to infer with. Turn markers and special tokens are found in the base's tokenizer and chat template.

    Raises:
        ValueError: a field or the base is not what it should be, its weights are pickled, or it is to be read with
            another `config`, or from a `subfolder`.
        TypeError: transformers does not take one of the options.
    """
    for name in ("config", "subfolder"):
        if options.get(name):
            raise ValueError(f"{name} is not taken here: give the folder of a checkpoint, and fields by their names")
    fields = {name: options.pop(name) for name in [*options] if name.startswith("zspa_") or meant_by(name)}
    check_field_names(fields)
    hub = {name: options.pop(name) for name in HUB_OPTIONS if name in options}
    folder = checkpoint_folder(base, revision, weights=False, **hub)
    config = read_config(folder)
    family = known_family(folder, config) if is_converted(config) else family_of(folder, config)
    found = {} if is_converted(config) else stock_fields(folder, family)
    check_fields(found | fields, allowed_position_ids(family))
    model_class = _pruning_class(family)
    other_files(folder)  # of which none may be an adapter
    variant = options.get("variant")
    weight_files(folder := with_weights(base, folder, variant, **hub), variant)
    try:
        with built_from(folder):
            config = model_class.config_class.from_pretrained(folder, **found | fields)
            named = [name for name in options if hasattr(config, name) and name not in _OF_LOADING]
            entries = {name: options.pop(name) for name in named}
        with built_from(folder, entries):
            if entries:  # of which a dict is for some entries of a part
                config = model_class.config_class.from_pretrained(folder, **found | fields | entries)
            loaded = model_class.from_pretrained(folder, config=config, **options)
    except ValueError as error:
        for name in options:
            if f"unexpected keyword argument '{name}'" in str(error):
                raise TypeError(f"{name} is no field of pruning, and nothing that transformers takes here") from error
        raise
    model = loaded[0] if isinstance(loaded, tuple) else loaded  # a tuple has what was loaded, too
    if local_folder(base) is None:
        model.name_or_path = model.config.name_or_path = str(base).partition("@")[0]
    _let_travel(model, family)
    return loaded


def prune(model, processor, **fields: Any):
    """Makes a stock model that is loaded already prune, in place, however it was loaded.

    Args:
        model: a generating model of a supported family, of transformers' own class.
        processor: its processor, in whose tokenizer and chat template turn markers and special tokens are found.
        fields: `zspa_*` fields of the config in place of those that it has, or of their defaults.

    Returns:
        The same model. Its class is the one that a converted checkpoint has, and its config is its own.

    Raises:
        ValueError: the model, or the base model in it, is of another class, prunes already or has a `forward` of its
            own; the processor is another model's; or a field is not what it should be. Nothing has changed then.
    """
    if _prunes(model):
        raise ValueError("the model prunes already: change the zspa_ fields of its config, or give it to unprune first")
    family = next((family for family in FAMILIES.values() if family.stock == type(model).__name__), None)
    if family is None or type(model) is not getattr(transformers, family.stock, None):
        raise ValueError(_not_stock(model, "a generating model"))
    model_class = _pruning_class(family)
    if type(model.model) is not (stock := model_class.base_class.__bases__[-1]):
        raise ValueError(_not_stock(model.model, stock.__name__))
    check_field_names(fields)
    tokenizer: Any = getattr(processor, "tokenizer", None)
    if not getattr(tokenizer, "is_fast", False):
        raise ValueError(f"processor is a {type(processor).__name__}, but must be the model's, with a fast tokenizer")
    template = getattr(processor, "chat_template", None) or tokenizer.chat_template
    _check_processor(processor, model.config)
    check_names(vars(model.config), "the model's config")
    own = {name: value for name, value in vars(model.config).items() if name in FIELDS}
    values = fields_found(family, tokenizer, template) | own | fields
    check_fields(values, allowed_position_ids(family))
    _turn({model: model_class, model.model: model_class.base_class}, model_class.config_class)
    model.visual_inputs = model.model.visual_inputs = encoder_arguments(model.model)
    for name, value in values.items():
        setattr(model.config, name, value)
    _let_travel(model, family)
    return model


def unprune(model):
    """Makes a model that prunes the stock model again, in place.

    Args:
        model: what `prune` or `from_pretrained` returned, or the model of a converted checkpoint.

    Returns:
        The same model, of transformers' own class; nothing of pruning is left in its config.

    Raises:
        ValueError: it is none that prunes by this version's code, it is wrapped, or has a `forward` of its own; nothing
            has changed then.
    """
    if type(model).__module__.startswith("transformers."):
        raise ValueError(f"the model is a {type(model).__name__}, which prunes nothing: there is nothing to undo")
    if not _prunes(model) or type(model.model) is not type(model).base_class:
        raise ValueError(
            f"the model is a {type(model).__name__}, but must be one that prunes by the code of hf_zspa {__version__}, "
            "as it was before it was wrapped or sharded: load another one with transformers' own class"
        )
    classes: dict[Any, Any] = {module: type(module).__bases__[-1] for module in (model, model.model)}
    _turn(classes, classes[model].config_class)
    for module in classes:
        del module.visual_inputs
    for name in [*FIELDS, *OTHER_ENTRIES, "auto_map"]:
        vars(model.config).pop(name, None)
    model.config.architectures = [classes[model].__name__]
    return model


def _prunes(model) -> bool:
    """Whether a model's own class is a family's that prunes, in this package or in a checkpoint."""
    return "base_class" in vars(type(model)) and hasattr(model, "select_visual_tokens")


def _not_stock(module, wanted: str) -> str:
    return (
        f"the model is a {type(module).__name__}, but must be {wanted} of transformers itself, of a supported family: "
        "prune it before it is wrapped, sharded or compiled"
    )


def _check_processor(processor, config) -> None:
    """Raises `ValueError` where a processor has another token for an image than the model."""
    there = getattr(processor, "image_token_id", None)
    known = {name: value for name, value in vars(config).items() if "image_token" in name or "boi_token" in name}
    if there is not None and known and there not in known.values():
        model = " and ".join(f"{name} {value}" for name, value in known.items())
        raise ValueError(
            f"the processor's token for an image is {there}, and the model has {model}: give its processor"
        )


def check_transformers_has(family: Family) -> None:
    """Raises `ValueError` where the installed transformers is older than the family."""
    if not hasattr(transformers, family.stock):
        raise ValueError(f"transformers {transformers.__version__} has no {family.stock}: install a later version")


def _pruning_class(family: Family):
    check_transformers_has(family)
    return getattr(import_module(f"hf_zspa.remote_code.{family.module}"), family.model_class)


def _turn(classes: dict[Any, Any], config_class: type) -> None:
    """Makes each module one of the class beside it, the first of which is the whole model. That gets a config of its
    own, of `config_class`: another model may have the one it has.

    Raises:
        ValueError: a module has a `forward` of its own, which would go on calling that of its old class.
    """
    for module in classes:
        called = getattr(module, "_old_forward", vars(module).get("forward"))  # that of accelerate calls another one
        if called is not None and getattr(called, "__func__", None) is not type(module).forward:
            raise ValueError(
                f"the forward of this {type(module).__name__} was replaced: do that after pruning, or after undoing it"
            )
    model = next(iter(classes))
    copies: dict[int, Any] = {}
    copy.deepcopy(model.config, copies)
    for module in model.modules():
        if id(vars(module).get("config")) in copies:
            module.config = copies[id(module.config)]
    model.config.__class__ = config_class
    model.model.config = model.config
    for module, cls in classes.items():
        turn_into(module, cls)
        if hasattr(module, "_hf_hook"):
            module._old_forward = MethodType(cls.forward, module)
        else:
            vars(module).pop("forward", None)  # what accelerate leaves behind


def _let_travel(model, family: Family) -> None:
    """Notes in the model's config what a converted checkpoint's says of the code that is saved beside it."""
    for name, value in code_entries(family).items():
        setattr(model.config, name, value)
