"""Synthetic photographs: objects before a cluttered background, or a page of words lying on one.

Drawn from one integer seed like the scenes of `scene.py`, with the same shapes and signs, on 21 x 21 cells. Objects
cover about a tenth of the picture. Its background has texture, gradients and noise at several scales, so that what
differs most from everything else is seldom an object. A page has 4 to 6 numbered lines of 4 or 5 words.
"""

import numpy as np

from . import drawing
from .drawing import PATCH_SIZE
from .scene import SPLITS, Canvas, Scene, SceneObject, shape_pairs, shuffled
from .vocabulary import COLOURS, DIGITS, LETTERS, LINE_NUMBERS, PAGE_WORDS

GRID = 21
IMAGE_SIZE = GRID * PATCH_SIZE
PAGE_SHARE = 0.35
WORD_PITCH, LINE_PITCH = 3, 2  # cells from one word, or line, to the next


def draw_photo(seed: int, split: str = "train") -> Scene:
    """The photograph of an integer seed in a split: the same picture every time, on every machine."""
    rng = np.random.default_rng([SPLITS[split], seed, 3])
    canvas = Canvas(rng, GRID, GRID, drawing.photograph)
    for _ in range(2):
        drawing.clutter(canvas.draw, rng, IMAGE_SIZE, IMAGE_SIZE)
    if split != "unseen" and rng.random() < PAGE_SHARE:
        _add_page(canvas)
    else:
        _add_objects(canvas, split)
    canvas.add_distractors(int(rng.integers(5, 9)))
    return Scene(np.array(canvas.image), np.array(canvas.owner), tuple(canvas.objects), False, split, IMAGE_SIZE)


def _add_objects(canvas: Canvas, split: str) -> None:
    """7 to 9 shapes, often two of one kind or colour, and two or three signs."""
    rng = canvas.rng
    signs, larges = int(rng.integers(2, 4)), int(rng.choice([0, 1, 1, 2]))
    for i, (colour, shape) in enumerate(shape_pairs(rng, int(rng.integers(7, 10)), split)):
        canvas.add_shape(colour, shape, large=i < larges)
    texts = zip(shuffled(rng, LETTERS, signs), shuffled(rng, DIGITS, signs), strict=True)
    for colour, (letter, digit) in zip(shuffled(rng, COLOURS, signs), texts, strict=True):
        canvas.add_sign(colour, letter + digit.removeprefix("##"))


def _add_page(canvas: Canvas) -> None:
    """A sheet with numbered lines; no word stands on it twice."""
    rng = canvas.rng
    lines, length = int(rng.integers(4, 7)), int(rng.integers(4, 6))
    columns, rows = 3 + length * WORD_PITCH, 1 + lines * LINE_PITCH
    corner = canvas.claim(columns, rows)
    assert corner is not None, "a page is drawn first, on an empty grid"
    x, y = corner
    drawing.paper(canvas.image, (x, y, x + columns * PATCH_SIZE, y + rows * PATCH_SIZE), rng)
    words = iter(shuffled(rng, PAGE_WORDS, lines * length))
    for line, number in enumerate(LINE_NUMBERS[:lines]):
        top = y + (1 + line * LINE_PITCH) * PATCH_SIZE
        _add_word(canvas, number, x + PATCH_SIZE, top)
        for i in range(length):
            _add_word(canvas, next(words), x + (3 + i * WORD_PITCH) * PATCH_SIZE, top)


def _add_word(canvas: Canvas, word: str, x: int, y: int) -> None:
    dx, dy = canvas.jitter()
    drawing.print_word(canvas.image, word, x + 1 + int(dx), y + int(dy))
    cells = 1 + (len(word) > 1)
    first = y // PATCH_SIZE * canvas.columns + x // PATCH_SIZE
    box = (x, y, x + cells * PATCH_SIZE - 1, y + PATCH_SIZE - 1)
    canvas.objects.append(SceneObject("", "word", box, text=word, text_cells=tuple(range(first, first + cells))))
    canvas.own.rectangle(box, fill=len(canvas.objects))
