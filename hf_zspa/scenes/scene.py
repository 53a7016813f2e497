"""Synthetic scenes of 7 to 10 objects among distractors and clutter, each drawn from one integer seed.

A scene is an image of square cells, 12 x 12 of them unless said otherwise, and a list of what is
in it. There are three families of objects:
shapes (six kinds, small or large), signs (a coloured plate that says a letter and a digit) and,
in chart scenes, the bars of a bar chart. "Shape", "sign" and "bar" exclude each other. Textured
grey distractors and clutter are drawn too and never asked about.

Splits never share a seed, and the colour-shape combinations of `HELD_OUT_COMBINATIONS` appear
only in the split "unseen".
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from PIL import Image, ImageDraw

from . import drawing
from .drawing import IMAGE_SIZE, OUTLINE, PATCH_SIZE
from .vocabulary import COLOURS, DIGITS, LETTERS, SHAPES

GRID = IMAGE_SIZE // PATCH_SIZE
SPLITS = {"train": 0, "held-out": 1, "unseen": 2}
HELD_OUT_COMBINATIONS = frozenset((colour, SHAPES[(2 * i + i // 3) % len(SHAPES)]) for i, colour in enumerate(COLOURS))
SMALL_RADIUS, LARGE_RADIUS = 11.0, 16.5
CHART_SHARE = 0.22


Background = Callable[[np.random.Generator, int, int], Image.Image]


@dataclass(frozen=True)
class SceneObject:
    """One thing a question can be about. Pixel coordinates, y downwards."""

    colour: str
    kind: str  # one of SHAPES, "sign", "bar" or "word"
    box: tuple[float, float, float, float]  # x0, y0, x1, y1
    large: bool = False
    text: str | None = None  # what a sign says, e.g. "k7"
    text_cells: tuple[int, ...] = ()  # index of the cell that holds each character

    @property
    def x(self) -> float:
        return (self.box[0] + self.box[2]) / 2

    @property
    def y(self) -> float:
        return (self.box[1] + self.box[3]) / 2

    @property
    def height(self) -> float:
        return self.box[3] - self.box[1]

    @property
    def is_shape(self) -> bool:
        return self.kind in SHAPES


@dataclass(frozen=True)
class Scene:
    """`image` (height, width, 3) uint8; `owner` (height, width) uint8: 1 + index of the object seen there, or 0."""

    image: np.ndarray
    owner: np.ndarray
    objects: tuple[SceneObject, ...]
    is_chart: bool
    split: str
    side: int = IMAGE_SIZE  # pixels over which coordinates go from -1 to 1

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of cells."""
        return self.image.shape[0] // PATCH_SIZE, self.image.shape[1] // PATCH_SIZE


class Canvas:
    """The picture, the map of who owns each pixel, and the cells that are already taken."""

    def __init__(self, rng: np.random.Generator, rows: int, columns: int, background: Background = drawing.background):
        self.rng = rng
        self.columns = columns
        self.image = background(rng, columns * PATCH_SIZE, rows * PATCH_SIZE)
        self.draw = ImageDraw.Draw(self.image)
        self.owner = Image.new("L", self.image.size)
        self.own = ImageDraw.Draw(self.owner)
        self.taken = np.zeros((rows, columns), bool)
        self.objects: list[SceneObject] = []

    def claim(self, width: int, height: int) -> tuple[int, int] | None:
        """Top left pixel of a free block of patches, or None when there is no room."""
        free = np.argwhere(~sliding_window_view(self.taken, (height, width)).any((2, 3)))
        if not len(free):
            return None
        row, column = free[int(self.rng.integers(len(free)))]
        self.taken[row : row + height, column : column + width] = True
        return int(column) * PATCH_SIZE, int(row) * PATCH_SIZE

    def jitter(self) -> np.ndarray:
        return self.rng.integers(-1, 2, 2)

    def add_shape(self, colour: str, name: str, large: bool) -> bool:
        blocks, radius = (3, LARGE_RADIUS) if large else (2, SMALL_RADIUS)
        corner = self.claim(blocks, blocks)
        if corner is None:
            return False
        x, y = np.array(corner) + blocks * PATCH_SIZE / 2 - 0.5 + self.jitter() * 0.5
        drawing.shape(self.draw, name, x, y, radius, drawing.shade(colour, self.rng), OUTLINE)
        self.objects.append(SceneObject(colour, name, (x - radius, y - radius, x + radius, y + radius), large))
        drawing.shape(self.own, name, x, y, radius, len(self.objects), len(self.objects))
        return True

    def add_sign(self, colour: str, text: str) -> bool:
        """A plate two patches wide, a character in each, on a short post."""
        corner = self.claim(2, 2)
        if corner is None:
            return False
        x, y = corner
        cell = y // PATCH_SIZE * self.columns + x // PATCH_SIZE
        box = (x - 1, y - 1, x + 2 * PATCH_SIZE, y + PATCH_SIZE + 1)
        post = (x + PATCH_SIZE - 1, y + PATCH_SIZE + 2, x + PATCH_SIZE, y + 2 * PATCH_SIZE - 3)
        self.draw.rectangle(post, fill=OUTLINE)
        self.draw.rectangle(box, fill=drawing.shade(colour, self.rng), outline=OUTLINE)
        dx, dy = self.jitter()
        drawing.text(self.image, text, x + int(dx), y + int(dy))
        self.objects.append(SceneObject(colour, "sign", box, text=text, text_cells=(cell, cell + 1)))
        self.own.rectangle(box, fill=len(self.objects))
        return True

    def add_chart(self, colours: list[str]) -> None:
        """Bars one patch wide and one patch apart on two axes, with ticks."""
        columns, rows = 2 * len(colours), 7
        corner = self.claim(columns, rows)
        assert corner is not None, "a chart is drawn first, on an empty grid"
        x, y = corner
        base = y + rows * PATCH_SIZE - 3
        tone = (int(self.rng.uniform(10, 60)),) * 3
        self.draw.line([(x + 2, y + 3), (x + 2, base), (x + columns * PATCH_SIZE - 2, base)], fill=tone, width=2)
        for tick in range(base - 12, y + 3, -12):
            self.draw.line([(x - 1, tick), (x + 2, tick)], fill=tone)
        for i, (colour, height) in enumerate(zip(colours, self.bar_heights(len(colours)), strict=True)):
            left = x + (2 * i + 1) * PATCH_SIZE
            box = (left, base - height, left + PATCH_SIZE - 2, base - 1)
            self.draw.rectangle(box, fill=drawing.shade(colour, self.rng), outline=OUTLINE)
            self.objects.append(SceneObject(colour, "bar", box))
            self.own.rectangle(box, fill=len(self.objects))

    def bar_heights(self, count: int) -> list[int]:
        """Heights in pixels, any two at least 8 apart."""
        while True:
            heights = self.rng.integers(10, 77, count)
            if np.diff(np.sort(heights)).min() >= 8:
                return [int(height) for height in heights]

    def add_distractors(self, count: int) -> None:
        for _ in range(count):
            width, height = ((2, 2), (3, 1), (1, 2), (2, 1))[int(self.rng.integers(4))]
            corner = self.claim(width, height)
            if corner is not None:
                x, y = corner
                box = (x + 1, y + 1, x + width * PATCH_SIZE - 2, y + height * PATCH_SIZE - 2)
                drawing.distractor(self.draw, box, self.rng)


def shuffled(rng: np.random.Generator, values, count: int | None = None) -> list:
    values = list(values)
    return [values[i] for i in rng.permutation(len(values))[:count]]


def shape_pairs(rng: np.random.Generator, count: int, split: str) -> list[tuple[str, str]]:
    """Distinct (colour, shape) pairs; the split decides whether held-out combinations may appear."""
    colours = shuffled(rng, COLOURS, int(rng.integers(5, 9)))
    shapes = shuffled(rng, SHAPES, int(rng.integers(4, 7)))
    pairs = [(colour, shape) for colour in colours for shape in shapes]
    if split != "unseen":
        return shuffled(rng, [pair for pair in pairs if pair not in HELD_OUT_COMBINATIONS], count)
    # Half of the unseen split's shapes are held-out combinations, or a scene would seldom hold one.
    new = shuffled(rng, sorted(HELD_OUT_COMBINATIONS), (count + 1) // 2)
    rest = [pair for pair in pairs if pair not in new]
    return shuffled(rng, new + shuffled(rng, rest, count - len(new)))


def varied_grid(*seed: int) -> tuple[int, int]:
    """Rows and columns of cells, 10 to 14 each: for models that take images of any size."""
    rows, columns = np.random.default_rng([*seed, 2]).integers(10, 15, 2)
    return int(rows), int(columns)


def draw_scene(seed: int, split: str = "train", grid: tuple[int, int] = (GRID, GRID)) -> Scene:
    """The scene of an integer seed in a split: the same picture every time, on every machine.

    `grid` gives the rows and columns of cells, at least 10 each.
    """
    rng = np.random.default_rng([SPLITS[split], seed])
    canvas = Canvas(rng, *grid)
    drawing.clutter(canvas.draw, rng, *canvas.image.size)
    total = int(rng.integers(7, 11))
    is_chart = rng.random() < CHART_SHARE
    if is_chart:
        canvas.add_chart(shuffled(rng, COLOURS, int(rng.integers(4, 6))))
        signs = 1
    else:
        signs = int(rng.integers(2, 4))
    shapes = total - signs - len(canvas.objects)
    larges = 0 if is_chart else int(rng.choice([0, 1, 1, 2]))
    for i, (colour, shape) in enumerate(shape_pairs(rng, shapes, split)):
        canvas.add_shape(colour, shape, large=i < larges)
    texts = zip(shuffled(rng, LETTERS, signs), shuffled(rng, DIGITS, signs), strict=True)
    for colour, (letter, digit) in zip(shuffled(rng, COLOURS, signs), texts, strict=True):
        canvas.add_sign(colour, letter + digit.removeprefix("##"))
    canvas.add_distractors(int(rng.integers(3, 7)))
    return Scene(np.array(canvas.image), np.array(canvas.owner), tuple(canvas.objects), is_chart, split)
