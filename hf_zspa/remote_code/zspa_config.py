"""The fields that pruning adds to `config.json`, and their checks; nothing slow is imported."""

import functools
from difflib import get_close_matches
from functools import cache
from typing import Any

from .zspa_checks import CHECKS, SCOPES, SETTINGS, check_choice, settings_of

POSITION_IDS = ("preserve", "compact")
FIELDS: dict[str, Any] = {
    "zspa_keep_ratio": 0.1,
    "zspa_method": "zspa",
    "zspa_core_ratio": 0.2,
    "zspa_relevance_weight": 0.75,
    "zspa_pooling": "mean",
    "zspa_centre": False,
    "zspa_prompt_scope": "query",
    "zspa_special_token_ids": None,
    "zspa_query_start_ids": None,
    "zspa_query_end_ids": None,
    "zspa_image_marker_ids": None,
    "zspa_position_ids": "preserve",
}
# Those that a call may set for itself, by the same names.
CALL_SETTINGS = (
    "zspa_keep_ratio", "zspa_method", "zspa_core_ratio", "zspa_relevance_weight", "zspa_pooling", "zspa_centre",
)  # fmt: skip
CALL_ARGUMENTS = ("visual_token_pruner", *CALL_SETTINGS)
# Entries of this prefix that pruning does not read: who wrote the checkpoint, and a setting of the plug-in for vLLM.
OTHER_ENTRIES = ("zspa_version", "zspa_code_sha256", "zspa_vision_cache_mb")


class ZspaConfigMixin:
    """Adds the pruning fields to a model's config class.

    Args:
        zspa_keep_ratio: share of each image's tokens kept, in (0, 1]; 1.0 is the stock, unpruned model.
        zspa_method: how they are chosen: "zspa", the paper's core and diversity; "weighted", both in one product;
            "dpp", a determinant; or "mmtok", coverage. `hf_zspa.ZspaPruner` and its neighbours have the formulas.
        zspa_core_ratio: for "zspa": share of the kept tokens chosen by relevance to the prompt, in [0, 1].
        zspa_relevance_weight: for "weighted" and "dpp": how much relevance counts, in [-1, 1].
        zspa_pooling: how prompt tokens are aggregated: "mean", "max" or "none"; "mmtok" does not read it.
        zspa_centre: whether an image's mean token is taken off before its tokens are compared with each other.
        zspa_prompt_scope: "query", the text of the last user turn, or "text", all text of the prompt.
        zspa_special_token_ids: list of token ids that are never prompt text.
        zspa_query_start_ids: list of token sequences that open a user turn.
        zspa_query_end_ids: list of token sequences that close it.
        zspa_image_marker_ids: list of token ids that tell an image's first tile, or its last, from the others, or
            behind which a processor writes text that is no question; where that text alone tells tiles apart, of the
            sequences of such a token and its text; None for families that need none.
        zspa_position_ids: "preserve" keeps the positions of the full sequence; "compact", for families that allow it,
            renumbers what is left.

    Attributes:
        allowed_position_ids: what `zspa_position_ids` may be in this family.
        first_transformers: the first version of transformers in which pruning this family is exact.
        mmtok_tau_text: the temperature that MMTok's authors have for prompt tokens in this family.

    Raises:
        ValueError: a field is outside its range, or there is none of its name; the message names the field, the value
            and what is allowed.
    """

    allowed_position_ids: tuple[str, ...] = POSITION_IDS[:1]
    first_transformers: str = "4.57"
    mmtok_tau_text: float = 0.02

    def __init_subclass__(cls, **kwargs):
        if cls.__init__ is super(cls, cls).__init__:  # none of its own; transformers 5 would make one, past the mixin's

            def __init__(self, *args, **fields):
                super(cls, self).__init__(*args, **fields)

            cls.__init__ = __init__  # type: ignore[method-assign]
        functools.update_wrapper(cls.__init__, super().__init__)  # tools read the names off it
        super().__init_subclass__(**kwargs)

    def __init__(self, *args, **kwargs):
        check_names(kwargs)
        fields = {name: kwargs.pop(name, default) for name, default in FIELDS.items()}
        super().__init__(*args, **kwargs)
        for name, value in fields.items():
            setattr(self, name, value)
        check_fields(fields, self.allowed_position_ids)

    def save_pretrained(self, *args, **kwargs):
        """Keeps the stock class in `architectures`, which saving a model reduces to its own: engines go by it."""
        ours, *_ = getattr(self, "architectures", None) or [""]
        if ours.startswith("Zspa"):
            self.architectures = [ours, ours.removeprefix("Zspa")]
        return super().save_pretrained(*args, **kwargs)


def check_names(names, where: str = "config.json") -> None:
    """Raises `ValueError` where one of `names`, the entries of a config, looks like a pruning field and is none.

    Args:
        where: what the message says it stands in.
    """
    for name in names:
        meant = meant_by(name)
        if meant or (name.startswith("zspa_") and name not in (*FIELDS, *OTHER_ENTRIES)):
            hint = f"did you mean {meant}?" if meant else f"but pruning reads only {', '.join(FIELDS)}"
            raise ValueError(f"{where} has {name}, {hint}")


@cache
def meant_by(name: str) -> str | None:
    """The pruning field whose name is misspelt, or stands without its prefix; None for every other name."""
    if name in FIELDS or name in OTHER_ENTRIES:
        return None
    close = get_close_matches(name, FIELDS, n=1, cutoff=0.85)
    return f"zspa_{name}" if f"zspa_{name}" in FIELDS else close[0] if close else None


def fields_of(config) -> dict[str, Any]:
    """The pruning fields of a config; one it lacks has its default.

    Raises:
        ValueError: it was given an attribute whose name is that of a field, misspelt.
    """
    check_names(dir(config), "the model's config")
    return {name: getattr(config, name, default) for name, default in FIELDS.items()}


def fields_read(fields: dict[str, Any]) -> dict[str, Any]:
    """Those of the fields of a config that its method reads; one it lacks has its default."""
    values = FIELDS | fields
    names = (f"zspa_{name}" for name in settings_of(values["zspa_method"]))
    return {name: values[name] for name in names if name in FIELDS}


def shown(field: str) -> str:
    """What a field is called in a sentence."""
    return field.removeprefix("zspa_").replace("_", " ")


def check_fields(fields: dict[str, Any], position_ids: tuple[str, ...]) -> None:
    """Raises `ValueError` where a pruning field is not allowed.

    Args:
        fields: entries of a config; a field that is not among them has its default.
        position_ids: what `zspa_position_ids` may be, the family's `allowed_position_ids`.
    """
    values = FIELDS | fields
    check_choice("zspa_method", values["zspa_method"], tuple(SETTINGS))
    for name, check in CHECKS.items():
        if f"zspa_{name}" in values:
            check(f"zspa_{name}", values[f"zspa_{name}"])
    check_choice("zspa_prompt_scope", values["zspa_prompt_scope"], SCOPES)
    check_choice("zspa_position_ids", values["zspa_position_ids"], position_ids)
    _check_ids("zspa_special_token_ids", values["zspa_special_token_ids"])
    markers = given = values["zspa_image_marker_ids"]
    if isinstance(given, list):
        markers = [i for marker in given for i in (marker if isinstance(marker, list) and marker else [marker])]
    if not _are_ids(markers):
        raise ValueError(
            f"zspa_image_marker_ids has {given!r}, but a list of token ids, or of lists of them, must stand there"
        )
    for name in ("zspa_query_start_ids", "zspa_query_end_ids"):
        sequences = values[name]
        if sequences is not None and not (isinstance(sequences, list) and all(sequences)):
            raise ValueError(f"{name} is {sequences!r}, but must be a list of non-empty lists of token ids, or null")
        for sequence in sequences or []:
            _check_ids(name, sequence)


def _check_ids(name: str, ids) -> None:
    if not _are_ids(ids):
        raise ValueError(f"{name} has {ids!r}, but a list of token ids (whole numbers from 0) must stand there")


def _are_ids(ids) -> bool:
    return ids is None or (isinstance(ids, list) and all(type(i) is int and i >= 0 for i in ids))


def check_given(given: dict[str, Any], own: str = FIELDS["zspa_method"]) -> tuple[str, dict[str, Any]]:
    """The method under settings of one call, and the others of them that are not None.

    Args:
        given: any of `CALL_SETTINGS`.
        own: the config's method.

    Raises:
        ValueError: a setting is outside its range, or given though the method does not read it.
    """
    given = {name: value for name, value in given.items() if value is not None}
    check_fields(given, POSITION_IDS)
    method = check_choice("zspa_method", given.pop("zspa_method", own), tuple(SETTINGS))
    check_read(method, [name.removeprefix("zspa_") for name in given], "zspa_")
    return method, given


def check_read(method: str, settings: Any, prefix: str = "") -> None:
    """Raises `ValueError` where one of the settings is none that the method reads.

    Args:
        prefix: what their names begin with where they were given as fields.
    """
    known = settings_of(method)
    for name in settings:
        if name not in known:
            reads = ", ".join(prefix + each for each in known if not prefix or prefix + each in FIELDS)
            raise ValueError(f"{prefix}{name} is not read by the method {method!r}, which reads {reads}")


def take_call(kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a call that choose its pruner, out of `kwargs`."""
    return {name: kwargs.pop(name) for name in CALL_ARGUMENTS if name in kwargs}


def check_settings(call: dict[str, Any]) -> None:
    """Raises `TypeError` where a call has an argument that looks like a setting and is none."""
    for name in call:
        if name.startswith("zspa_"):
            meant = meant_by(name) or f"{', '.join(CALL_SETTINGS)} or visual_token_pruner"
            raise TypeError(f"{name} is no setting of a call: did you mean {meant}?")
