"""Panels with captions and legends, laid out side by side: pictures for people, made with Pillow alone."""

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

INK, PAPER = (30, 30, 30), (255, 255, 255)
GAP, TEXT, MIN_WIDTH = 24, 24, 320  # pixels: space between panels, height of letters, room for a legend's words
LINE = TEXT * 4 // 3


@dataclass
class Column:
    """Panels over each other, all of one kind.

    Attributes:
        captions: a line over each panel.
        panels: the pictures.
        legend: under them, swatches and what they mean; None for words alone.
    """

    captions: Sequence[str]
    panels: Sequence[Image.Image]
    legend: Sequence[tuple[Image.Image | None, str]] = ()


def compose(columns: Sequence[Column], heading: str) -> Image.Image:
    """A figure of the columns side by side under a heading; every text is wrapped to the room it has."""
    font = ImageFont.load_default(TEXT)
    row_heights = [max(panel.height for panel in row) for row in zip(*(column.panels for column in columns))]
    bodies = [_body(column, row_heights, font) for column in columns]
    width = sum(body.width + GAP for body in bodies) + GAP
    above = _words(_wrapped(heading, font, width - 2 * GAP), font)
    top = above.height + 3 * GAP // 2
    figure = Image.new("RGB", (width, top + max(body.height for body in bodies) + GAP), PAPER)
    figure.paste(above, (GAP, GAP))
    x = GAP
    for body in bodies:
        figure.paste(body, (x, top))
        x += body.width + GAP
    return figure


def swatch(colour: tuple[int, int, int]) -> Image.Image:
    return Image.new("RGB", (TEXT, TEXT), colour)


def _body(column: Column, heights: list[int], font) -> Image.Image:
    """A column as one picture, with `heights` for its panels."""
    width = max(MIN_WIDTH, *(panel.width for panel in column.panels))
    legend = [_legend_entry(mark, text, width, font) for mark, text in column.legend]
    height = sum(LINE + h + GAP // 2 for h in heights) + sum(entry.height for entry in legend)
    body = Image.new("RGB", (width, height), PAPER)
    y = 0
    for caption, panel, room in zip(column.captions, column.panels, heights):
        ImageDraw.Draw(body).text((0, y), caption, INK, font)
        body.paste(panel, (0, y + LINE))
        y += LINE + room + GAP // 2
    for entry in legend:
        body.paste(entry, (0, y))
        y += entry.height
    return body


def _legend_entry(mark: Image.Image | None, text: str, width: int, font) -> Image.Image:
    indent = 0 if mark is None else mark.width + TEXT // 2
    words = _words(_wrapped(text, font, width - indent), font)
    entry = Image.new("RGB", (width, words.height), PAPER)
    entry.paste(words, (indent, 0))
    if mark is not None:
        entry.paste(mark, (0, TEXT // 6))
    return entry


def _words(lines: list[str], font) -> Image.Image:
    width = max((int(font.getlength(line)) + 1 for line in lines), default=1)
    words = Image.new("RGB", (width, LINE * len(lines)), PAPER)
    for i, line in enumerate(lines):
        ImageDraw.Draw(words).text((0, i * LINE), line, INK, font)
    return words


def _wrapped(text: str, font, width: int) -> list[str]:
    """`text` as lines of at most `width` pixels, broken between words where it has any."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= width or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines
