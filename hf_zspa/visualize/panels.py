"""How a selection is drawn: the relevance heat map and the kept tokens, over the image."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from .figure import PAPER, TEXT, Column, compose, swatch
from .selection import Selection
from .token_grid import View

# Okabe and Ito's vermilion and blue, told apart in every kind of colour vision; the ramp is viridis.
CORE, DIVERSITY = (213, 94, 0), (0, 114, 178)
VIRIDIS = np.array([(68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37)])
PANEL = 480  # pixels of a square panel's side; others have its area, up to twice as long


def picture(views: Sequence[View], selection: Selection, question: str, notes: Sequence[str] = ()) -> Image.Image:
    """The image with notes under it, the relevance heat map and the kept tokens side by side."""
    columns = [
        Column([view.name for view in views], [enlarged(view) for view in views], [(None, note) for note in notes]),
        Column(
            ["relevance to the question"] * len(views),
            [heat_map(view, selection.scores) for view in views],
            [(_ramp(), f"cosine {selection.scores.min():.2f} to {selection.scores.max():.2f}")],
        ),
        _kept_column("kept tokens", views, selection),
    ]
    return compose(columns, question)


def comparison(views: Sequence[View], selections: dict[str, Selection], question: str) -> Image.Image:
    """Selections side by side under their titles, as in the paper's Figure 1."""
    return compose([_kept_column(title, views, kept) for title, kept in selections.items()], question)


def heat_map(view: View, scores: Tensor) -> Image.Image:
    """The view in grey under the colours of its tokens' relevance, from the lowest to the highest of the image."""
    span = (scores.max() - scores.min()).clamp_min(1e-12)
    panel = enlarged(view)
    heat = Image.fromarray(_viridis(((scores[view.tokens] - scores.min()) / span).numpy()))
    return Image.blend(panel.convert("L").convert("RGB"), heat.resize(panel.size, Image.Resampling.NEAREST), 0.7)


def kept_tokens(view: View, core: Tensor, diversity: Tensor) -> Image.Image:
    """The view with kept patches as they are, framed in the colour of their kind, and all others grey and faded."""
    panel = enlarged(view)
    faded = Image.blend(panel.convert("L").convert("RGB"), Image.new("RGB", panel.size, PAPER), 0.6)
    draw = ImageDraw.Draw(faded)
    for tokens, colour in ((diversity, DIVERSITY), (core, CORE)):
        for row, column in torch.isin(view.tokens, tokens).nonzero().tolist():
            left, top, right, bottom = patch_box(view, panel.size, row, column)
            faded.paste(panel.crop((left, top, right, bottom)), (left, top))
            draw.rectangle(
                (left, top, right - 1, bottom - 1), outline=colour, width=max(1, min(4, (right - left) // 5))
            )
    return faded


def patch_box(view: View, size: tuple[int, int], row: int, column: int) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of a token's patch in a panel of `size`."""
    width, height = size[0] // view.tokens.shape[1], size[1] // view.tokens.shape[0]
    return column * width, row * height, (column + 1) * width, (row + 1) * height


def enlarged(view: View) -> Image.Image:
    """The view's image at the size of a panel, give or take what makes every patch whole pixels."""
    scale = min(PANEL / math.sqrt(view.image.width * view.image.height), 2 * PANEL / max(view.image.size))
    rows, columns = view.tokens.shape
    width = max(4, round(view.image.width * scale / columns)) * columns
    height = max(4, round(view.image.height * scale / rows)) * rows
    return view.image.resize((width, height), Image.Resampling.LANCZOS)


def legend(views: Sequence[View], selection: Selection) -> list[tuple[tuple[int, int, int] | None, str]]:
    """What the frames in `kept_tokens` mean, and what there is to say of the selection, each with its colour if any."""
    lines: list[tuple[tuple[int, int, int] | None, str]] = [
        (CORE, f"{len(selection.core)} {selection.why[0]}"),
        (DIVERSITY, f"{len(selection.diversity)} {selection.why[1]}"),
        (None, f"{len(selection.kept)} of {len(selection.scores)} tokens kept"),
    ]
    if selection.note:
        lines.append((None, selection.note))
    placed = torch.cat([view.tokens.flatten() for view in views])
    newlines = int((~torch.isin(selection.kept, placed)).sum())
    if newlines:
        lines.append((None, f"{newlines} of them end a row: no place in the image"))
    return lines


def _kept_column(title: str, views: Sequence[View], selection: Selection) -> Column:
    panels = [kept_tokens(view, selection.core, selection.diversity) for view in views]
    lines = [(colour and swatch(colour), text) for colour, text in legend(views, selection)]
    return Column([title] * len(views), panels, lines)


def _viridis(levels: np.ndarray) -> np.ndarray:
    """Colours `(..., 3)`, uint8, of levels from 0 to 1."""
    stops = np.linspace(0, 1, len(VIRIDIS))
    return np.stack([np.interp(levels, stops, channel) for channel in VIRIDIS.T], axis=-1).round().astype(np.uint8)


def _ramp() -> Image.Image:
    return Image.fromarray(_viridis(np.linspace(0, 1, 6 * TEXT))[None]).resize((6 * TEXT, TEXT))
