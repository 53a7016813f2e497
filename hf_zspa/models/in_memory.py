"""A model that prunes without a converted checkpoint: loaded from its base, or made of one that is loaded already."""

from importlib import import_module
from pathlib import Path
from types import MethodType
from typing import Any

import transformers

from ..checkpoints.base import family_of, is_converted, known_family, read_config, weight_files
from ..checkpoints.code_files import allowed_position_ids, code_entries
from ..checkpoints.families import FAMILIES, Family
from ..checkpoints.resolve import HUB_OPTIONS, checkpoint_folder
from ..checkpoints.write import check_field_names, fields_found, stock_fields
from ..remote_code.zspa_compat import turn_into
from ..remote_code.zspa_config import FIELDS, OTHER_ENTRIES, check_fields, meant_by
from ..remote_code.zspa_encoder import encoder_arguments


def from_pretrained(base: str | Path, *, revision: str | None = None, **options: Any):
    """A stock checkpoint as a model that prunes. Its weights are read where they are, and nothing is written.

    The class is the one that a converted checkpoint has. `save_pretrained` and `push_to_hub` of the model make such a
    checkpoint, beside which the processor is to be saved, too.

    Args:
        base: folder or Hub id of a stock checkpoint of a supported family. Of a converted one the fields are kept; its
            code is not run, but this package's.
        revision: branch, tag or commit of a Hub id.
        options: `zspa_*` fields of the config in place of their defaults, and what transformers' `from_pretrained`
            takes: `dtype`, `device_map`, `quantization_config`, `attn_implementation`...

    Returns:
        The model, to infer with. Turn markers and special tokens are found in the base's tokenizer and chat template.

    Raises:
        ValueError: a field or the base is not what it should be, or its weights are pickled.
    """
    fields = {name: options.pop(name) for name in [*options] if name.startswith("zspa_") or meant_by(name)}
    check_field_names(fields)
    hub = {name: options.pop(name) for name in HUB_OPTIONS if name in options}
    folder = checkpoint_folder(base, revision, weights=False, **hub)
    config = read_config(folder)
    family = known_family(folder, config) if is_converted(config) else family_of(folder, config)
    found = {} if is_converted(config) else stock_fields(folder, family)
    check_fields(found | fields, allowed_position_ids(family))
    weight_files(folder := checkpoint_folder(base, revision, **hub))
    model_class = _pruning_class(family)
    config = model_class.config_class.from_pretrained(folder, **found | fields)
    loaded = model_class.from_pretrained(folder, config=config, **options)
    _let_travel(loaded[0] if isinstance(loaded, tuple) else loaded, family)  # a tuple has what was loaded, too
    return loaded


def prune(model, processor, **fields: Any):
    """Makes a stock model that is loaded already prune, in place, however it was loaded.

    Args:
        model: a generating model of a supported family, of transformers' own class.
        processor: its processor, in whose tokenizer and chat template turn markers and special tokens are found.
        fields: `zspa_*` fields of the config in place of their defaults.

    Returns:
        The same model. Its class is the one that a converted checkpoint has.

    Raises:
        ValueError: the model is of another class, prunes already or has a `forward` of its own, or a field is not what
            it should be; nothing has changed then.
    """
    if _prunes(model):
        raise ValueError("the model prunes already: change the zspa_ fields of its config, or give it to unprune first")
    family = FAMILIES.get(str(getattr(getattr(model, "config", None), "model_type", None)))
    if family is None or type(model) is not getattr(transformers, family.stock, None):
        raise ValueError(
            f"the model is a {type(model).__name__}, but must be {family.stock if family else 'a generating model'} of "
            "transformers itself, of a supported family: prune it before it is wrapped, sharded or compiled"
        )
    check_field_names(fields)
    tokenizer: Any = getattr(processor, "tokenizer", None)
    if not getattr(tokenizer, "is_fast", False):
        raise ValueError(f"processor is a {type(processor).__name__}, but must be the model's, with a fast tokenizer")
    template = getattr(processor, "chat_template", None) or tokenizer.chat_template
    values = fields_found(family, tokenizer, template) | fields
    check_fields(values, allowed_position_ids(family))
    model_class = _pruning_class(family)
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
        ValueError: it is none that prunes, or has a `forward` of its own; nothing has changed then.
    """
    if not _prunes(model):
        raise ValueError(f"the model is a {type(model).__name__}, which does not prune: there is nothing to undo")
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
    return hasattr(type(model), "base_class") and hasattr(model, "select_visual_tokens")


def _pruning_class(family: Family):
    if not hasattr(transformers, family.stock):
        raise ValueError(f"transformers {transformers.__version__} has no {family.stock}: install a later version")
    return getattr(import_module(f"hf_zspa.remote_code.{family.module}"), family.model_class)


def _turn(classes: dict[Any, Any], config_class: type) -> None:
    """Makes each module one of the class beside it, and the config of the first one of `config_class`.

    Raises:
        ValueError: a module has a `forward` of its own, which would go on calling that of its old class.
    """
    for module in classes:
        if "forward" in vars(module) and not hasattr(module, "_hf_hook"):
            raise ValueError(
                f"the forward of this {type(module).__name__} was replaced: do that after pruning, or after undoing it"
            )
    next(iter(classes)).config.__class__ = config_class
    for module, cls in classes.items():
        turn_into(module, cls)
        if "forward" in vars(module):  # accelerate moves inputs, and then calls what was bound
            module._old_forward = MethodType(cls.forward, module)


def _let_travel(model, family: Family) -> None:
    """Notes in the model's config what a converted checkpoint's says of the code that is saved beside it."""
    for name, value in code_entries(family).items():
        setattr(model.config, name, value)
