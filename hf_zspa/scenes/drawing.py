"""How things look: background, clutter, textured distractors, shapes, signs and bars.

Every function draws on an RGB canvas with the generator it is given and knows nothing of questions.
"""

import math

import numpy as np
from PIL import Image, ImageDraw

from .font import GLYPH_SIZE, SMALL_GLYPH_SIZE, glyph, small_glyph
from .vocabulary import COLOURS

IMAGE_SIZE = 144
PATCH_SIZE = 12
OUTLINE = (10, 10, 10)


def background(rng: np.random.Generator, width: int, height: int) -> Image.Image:
    """A smooth random field with fine noise, greyish so that no part of it looks like a colour."""
    cells = int(rng.integers(3, 8))
    low = rng.normal(0, 1, (cells, cells, 3))
    field = rng.uniform(95, 190) + 22 * low.mean(2, keepdims=True) + 7 * low
    coarse = Image.fromarray(np.clip(field, 0, 255).astype(np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), np.float32)
    grain = rng.standard_normal((height, width, 1), dtype=np.float32) * rng.uniform(2, 9)
    return Image.fromarray(np.clip(smooth + grain, 0, 255).astype(np.uint8))


def photograph(rng: np.random.Generator, width: int, height: int) -> Image.Image:
    """A muted colour photograph of nothing: light falling off, noise at every scale, and patches of texture."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    tint = lambda spread: rng.normal(0, spread, 3).astype(np.float32)  # noqa: E731
    angle = rng.uniform(0, 2 * math.pi)
    slope = (x / width - 0.5) * math.cos(angle) + (y / height - 0.5) * math.sin(angle)
    light, falling = rng.uniform(95, 165) + tint(12), rng.uniform(-70, 70) + tint(18)
    field = np.multiply.outer(falling, slope) + light[:, None, None]  # (3, height, width): planes are quicker
    for cells in (3, 6, 12, 25, 50):
        coarse = rng.standard_normal((cells, cells, 1), dtype=np.float32) * rng.uniform(4, 16)
        coarse = coarse + rng.standard_normal((cells, cells, 3), dtype=np.float32) * rng.uniform(2, 6)
        for plane, layer in zip(field, coarse.transpose(2, 0, 1), strict=True):
            grown = Image.fromarray(np.ascontiguousarray(layer)).resize((width, height), Image.Resampling.BILINEAR)
            plane += np.asarray(grown)
    for _ in range(int(rng.integers(3, 7))):
        _add_texture(field, rng, x, y)
    field += rng.standard_normal((height, width), dtype=np.float32) * np.float32(rng.uniform(2, 8))
    return Image.fromarray(np.ascontiguousarray(np.clip(field, 0, 255).astype(np.uint8).transpose(1, 2, 0)))


def _add_texture(field: np.ndarray, rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> None:
    """Adds something striped, checked or speckled, in a soft ellipse, to the planes (3, height, width) of a field."""
    height, width = x.shape
    angle, length = rng.uniform(0, math.pi), rng.uniform(5, 22)
    along, across = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
    middle = int(rng.integers(x.size))
    reach_along, reach_across = rng.uniform(25, width / 2), rng.uniform(25, height / 2)
    dx, dy = (along - along.flat[middle]) / reach_along, (across - across.flat[middle]) / reach_across
    inside = np.clip(2 - np.sqrt(dx * dx + dy * dy) * 2, 0, 1)
    kind, phase = int(rng.integers(3)), 2 * math.pi / length
    if kind == 0:
        wave = np.sin(along * phase)
    elif kind == 1:
        wave = np.sign(np.sin(along * phase) * np.sin(across * phase))
    else:
        wave = rng.standard_normal(x.shape, dtype=np.float32)
    contrast, shift = rng.uniform(8, 26) + rng.normal(0, 5, 3), rng.normal(0, 14, 3)
    for plane, strength, offset in zip(field, contrast.tolist(), shift.tolist(), strict=True):
        plane += inside * (wave * strength + offset)


def paper(canvas: Image.Image, box: tuple[int, int, int, int], rng: np.random.Generator) -> None:
    """A sheet of light paper, unevenly lit, laid on the canvas."""
    x0, y0, x1, y1 = box
    light = np.linspace(rng.uniform(-14, 0), rng.uniform(-14, 0), x1 - x0)[None, :, None]
    light = light + np.linspace(0, rng.uniform(-14, 0), y1 - y0)[:, None, None]
    grain = rng.standard_normal((y1 - y0, x1 - x0, 1), dtype=np.float32) * rng.uniform(1, 4)
    sheet = rng.uniform(232, 252) + rng.normal(0, 4, 3) + light + grain
    canvas.paste(Image.fromarray(np.clip(sheet, 0, 255).astype(np.uint8)), (x0, y0))
    ImageDraw.Draw(canvas).rectangle((x0, y0, x1 - 1, y1 - 1), outline=(90, 90, 90))


def print_word(canvas: Image.Image, word: str, x: int, y: int) -> None:
    """A word in small black letters, two to a cell; (x, y) is the top left of its first cell."""
    height = SMALL_GLYPH_SIZE[1]
    for i, character in enumerate(word):
        place = x + i * PATCH_SIZE // 2, y + (PATCH_SIZE - height) // 2
        canvas.paste(OUTLINE, place, small_glyph(character))


def clutter(draw: ImageDraw.ImageDraw, rng: np.random.Generator, width: int, height: int) -> None:
    """Grey lines, arcs, sprinkled dots and small plus signs: four kinds, several of each."""
    for _ in range(int(rng.integers(8, 17))):
        x, y = rng.uniform(0, (width, height))
        tone = (int(rng.uniform(40, 230)),) * 3
        kind = int(rng.integers(4))
        if kind == 0:
            angle, length = rng.uniform(0, 2 * math.pi), rng.uniform(8, 36)
            end = (x + length * math.cos(angle), y + length * math.sin(angle))
            draw.line([(x, y), end], fill=tone, width=int(rng.integers(1, 3)))
        elif kind == 1:
            radius, start = rng.uniform(4, 14), rng.uniform(0, 360)
            box = [x - radius, y - radius, x + radius, y + radius]
            draw.arc(box, start, start + rng.uniform(60, 300), fill=tone, width=int(rng.integers(1, 3)))
        elif kind == 2:
            for dx, dy in rng.uniform(-10, 10, (6, 2)):
                draw.ellipse([x + dx - 1, y + dy - 1, x + dx + 1, y + dy + 1], fill=tone)
        else:
            arm = rng.uniform(2, 4)
            draw.line([(x - arm, y), (x + arm, y)], fill=tone)
            draw.line([(x, y - arm), (x, y + arm)], fill=tone)


def distractor(draw: ImageDraw.ImageDraw, box: tuple[int, int, int, int], rng: np.random.Generator) -> None:
    """A textured grey thing nobody asks about: stripes, checks, rings, or a plate of scribble."""
    x0, y0, x1, y1 = box
    dark = (int(rng.uniform(15, 100)),) * 3
    light = (int(rng.uniform(150, 245)),) * 3
    draw.rectangle(box, fill=light, outline=OUTLINE)
    kind, step = int(rng.integers(4)), int(rng.integers(4, 7))
    if kind == 0:
        for x in range(x0 + 2, x1 - 1, step):
            draw.line([(x, y0 + 1), (x, y1 - 1)], fill=dark, width=2)
    elif kind == 1:
        for i, x in enumerate(range(x0 + 1, x1 - 1, step)):
            for j, y in enumerate(range(y0 + 1, y1 - 1, step)):
                if (i + j) % 2:
                    draw.rectangle([x, y, min(x + step - 1, x1 - 1), min(y + step - 1, y1 - 1)], fill=dark)
    elif kind == 2:
        for inset in range(2, min(x1 - x0, y1 - y0) // 2, step - 1):
            draw.ellipse([x0 + inset, y0 + inset, x1 - inset, y1 - inset], outline=dark, width=2)
    else:
        for y in range(y0 + 4, y1 - 2, step):
            xs = np.arange(x0 + 3, x1 - 2, 2)
            points = [(int(x), int(y + dy)) for x, dy in zip(xs, rng.integers(-1, 2, len(xs)), strict=True)]
            draw.line(points, fill=dark)


def shade(colour: str, rng: np.random.Generator) -> tuple[int, int, int]:
    """The colour's RGB value, a little off, as paint is."""
    red, green, blue = np.clip(np.array(COLOURS[colour]) + rng.normal(0, 9, 3), 0, 255)
    return int(red), int(green), int(blue)


def outline_points(shape: str, x: float, y: float, radius: float) -> list[tuple[float, float]]:
    """Corners of a polygonal shape around (x, y)."""
    if shape == "square":
        q = radius * 0.86
        return [(x - q, y - q), (x + q, y - q), (x + q, y + q), (x - q, y + q)]
    if shape == "diamond":
        return [(x, y - radius), (x + radius, y), (x, y + radius), (x - radius, y)]
    if shape == "triangle":
        return [(x, y - radius), (x + radius, y + radius * 0.85), (x - radius, y + radius * 0.85)]
    if shape == "star":
        arms = [radius * (1.05 if i % 2 == 0 else 0.5) for i in range(10)]
        turns = [i * math.pi / 5 for i in range(10)]
        return [(x + r * math.sin(t), y - r * math.cos(t)) for r, t in zip(arms, turns, strict=True)]
    a, b = radius * 0.4, radius * 0.97  # cross
    return [
        (x - a, y - b), (x + a, y - b), (x + a, y - a), (x + b, y - a), (x + b, y + a), (x + a, y + a),
        (x + a, y + b), (x - a, y + b), (x - a, y + a), (x - b, y + a), (x - b, y - a), (x - a, y - a),
    ]  # fmt: skip


def shape(draw: ImageDraw.ImageDraw, name: str, x: float, y: float, radius: float, fill, outline) -> None:
    """One of the six shapes, filled and outlined."""
    if name == "circle":
        draw.ellipse([x - radius, y - radius, x + radius, y + radius], fill=fill, outline=outline)
    else:
        draw.polygon(outline_points(name, x, y, radius), fill=fill, outline=outline)


def text(canvas: Image.Image, characters: str, x: int, y: int) -> None:
    """Characters in black, one per patch; (x, y) is the top left of the first one's 12 x 12 cell."""
    for i, character in enumerate(characters):
        corner = (x + i * PATCH_SIZE + (PATCH_SIZE - GLYPH_SIZE[0]) // 2, y + (PATCH_SIZE - GLYPH_SIZE[1]) // 2)
        canvas.paste(OUTLINE, corner, glyph(character))
