"""The options that choose tokens, of every command that has them; what is not given is the checkpoint's."""

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from .shared import flag, ratio

KeepRatio = Annotated[float | None, ratio(help="Share of each image's tokens kept, (0, 1].")]
Method = Annotated[str | None, typer.Option(help="zspa, weighted, dpp or mmtok.")]
CoreRatio = Annotated[float | None, ratio(help="For zspa: share of those chosen by relevance, [0, 1].")]
RelevanceWeight = Annotated[
    float | None, typer.Option(metavar="WEIGHT", help="For weighted, dpp: how much relevance counts, [-1, 1].")
]
Pooling = Annotated[str | None, typer.Option(help="How prompt tokens are aggregated: mean, max or none.")]
Centre = Annotated[
    bool | None,
    flag("--centre/--no-centre", help="Take the mean token off before tokens are compared."),
]


def chosen(options: Mapping[str, Any]) -> dict[str, Any]:
    """Those options of a command, by the names of its arguments, that choose tokens."""
    names = ("keep_ratio", "method", "core_ratio", "relevance_weight", "pooling", "centre")
    return {name: options[name] for name in names}
