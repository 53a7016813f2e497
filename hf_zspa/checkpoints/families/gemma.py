"""The Gemma models that see."""

from collections.abc import Sequence

from .record import Config, Family, Grid, Layout, are_sizes, rows


def _layout(config: Config, size: Sequence[int]) -> Layout:
    """A square of pooled patches over the whole resized image."""
    count = config.get("mm_tokens_per_image", 256)
    side = int(count**0.5)
    return Layout(count, (Grid(rows(0, side, side)),))


def _any_image(config: Config) -> list[tuple[str, tuple[int, ...]]]:
    return [("any", ())] if are_sizes(config.get("mm_tokens_per_image", 256)) else []


GEMMA3 = Family(
    "gemma3", "Gemma3ForConditionalGeneration", ("gemma3_text",), ("siglip_vision_model",),
    layout=_layout, typical=_any_image,
)  # fmt: skip
