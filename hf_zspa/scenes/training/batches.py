"""Training batches: scenes with packed questions and everything the losses look at.

Numpy only, so that a data worker stays light. Batch number and seed decide the whole content.
"""

import numpy as np
from torch.utils.data import Dataset

from ..questions import Question, ask
from ..scene import IMAGE_SIZE, PATCH_SIZE, Scene
from ..vocabulary import Vocabulary, word_pieces
from .families import Family

IGNORED = -100
# How often a kind is drawn: what is learnt last comes most often.
SHAPE_SCENE_KINDS = ("existence",) * 3 + ("attribute",) * 2 + ("relation",) * 2 + ("reading",) + ("extreme",) * 3
CHART_SCENE_KINDS = ("existence",) * 2 + ("attribute", "relation", "reading", "extreme") + ("chart",) * 3
PHOTO_SCENE_KINDS = ("attribute",) * 4 + ("exclusion",) * 5 + ("extreme",) * 2
PAGE_SCENE_KINDS = ("next", "next", "line")
PREVIOUS = 24  # words of a page that are asked which one stands before them
# What a pointer slot says: at this token, look at these patches.
SLOTS = ("answer", "answer_second", "noun", "noun_second")


def patch_owners(scene: Scene) -> np.ndarray:
    """(cells, objects) float: the share of each cell that shows each object."""
    rows, columns = scene.grid
    blocks = scene.owner.reshape(rows, PATCH_SIZE, columns, PATCH_SIZE)
    shown = blocks[..., None] == np.arange(1, len(scene.objects) + 1)
    return shown.mean((1, 3)).reshape(rows * columns, -1)


def patch_words(scene: Scene, owners: np.ndarray, vocabulary: Vocabulary) -> np.ndarray:
    """(cells, visible words) bool: what each cell shows: colours, kinds, the character of a sign, a word of a page."""
    words = np.zeros((len(owners), len(vocabulary.visible)), bool)
    known = vocabulary.visible_index
    for index, thing in enumerate(scene.objects):
        if thing.kind == "word":
            words[list(thing.text_cells), known[thing.text or ""]] = True
            continue
        seen = owners[:, index] >= 0.12
        for word in (thing.colour, thing.kind, "shape" if thing.is_shape else thing.kind):
            words[seen, known[word]] = True
        for cell, piece in zip(thing.text_cells, word_pieces(thing.text) if thing.text else (), strict=True):
            words[cell, known[piece]] = True
    return words


def coordinates(scene: Scene, pixels: np.ndarray) -> np.ndarray:
    """Pixel coordinates to -1 … 1 over a scene of the usual size."""
    return (pixels / scene.side * 2 - 1).astype(np.float32)


def patch_places(scene: Scene) -> np.ndarray:
    """(cells, 2) float32: where the centre of each cell is, as x and y, -1 … 1 over a scene of the usual size."""
    rows, columns = scene.grid
    x, y = np.meshgrid(np.arange(columns), np.arange(rows))
    return (np.stack([x, y], -1).reshape(-1, 2) / (scene.side // PATCH_SIZE - 1) * 2 - 1).astype(np.float32)


def patch_geometry(scene: Scene, owners: np.ndarray) -> np.ndarray:
    """(cells, 4) float32: centre x, centre y, width and height of the object a cell shows most; NaN elsewhere."""
    boxes = np.array([thing.box for thing in scene.objects], np.float32)
    centre, size = (
        coordinates(scene, (boxes[:, :2] + boxes[:, 2:]) / 2),
        (boxes[:, 2:] - boxes[:, :2]) / IMAGE_SIZE * 2 - 0.5,
    )
    geometry = np.concatenate([centre, size], 1)[owners.argmax(1)]
    geometry[owners.max(1) < 0.12] = np.nan
    return geometry


def encode_question(family: Family, scene: Scene, question: Question, owners: np.ndarray) -> dict[str, np.ndarray]:
    """Token ids, next-token targets and pointers of one question, padded to the family's length."""
    vocabulary = family.vocabulary
    prompt = [*vocabulary.encode(question.text), *vocabulary.encode_tokens(family.ask)]
    answer = vocabulary.encode(question.answer)
    start = len(prompt) - 1  # the token that the answer follows
    tokens = np.full(family.question_length + len(family.ask), vocabulary.ids[family.pad])
    targets = np.full(len(tokens), IGNORED)
    tokens[: len(prompt) + len(answer)] = [*prompt, *answer]
    targets[start : start + 1 + len(answer)] = [*answer, vocabulary.ids[family.end]]

    slot_position = np.zeros(len(SLOTS), np.int64)
    slot_patches = np.zeros((len(SLOTS), len(owners)), bool)
    noun_place = np.full((2, 2), np.nan, np.float32)
    slot_position[:2] = start, start + 1
    if question.kind == "reading":
        for slot, cell in enumerate(scene.objects[question.about[0]].text_cells):
            slot_patches[slot, cell] = True
    elif question.about:
        slot_patches[0] = (owners[:, list(question.about)] >= 0.05).any(1)
    ends = np.cumsum([len(word_pieces(word)) for word in question.text.split()]) - 1
    for slot, (word, index) in enumerate(question.nouns):
        thing = scene.objects[index]
        slot_position[2 + slot] = ends[word]
        slot_patches[2 + slot] = owners[:, index] >= 0.05
        noun_place[slot] = coordinates(scene, np.array([thing.x, thing.y]))
    return {
        "tokens": tokens,
        "targets": targets,
        "slot_position": slot_position,
        "slot_patches": slot_patches,
        "noun_place": noun_place,
        "kind": np.int64(list(family.domain.kinds).index(question.kind)),
    }


def _kinds_about(scene: Scene, family: Family) -> tuple[str, ...]:
    if scene.objects[0].kind == "word":
        return PAGE_SCENE_KINDS
    if "exclusion" in family.domain.kinds:
        return PHOTO_SCENE_KINDS
    return CHART_SCENE_KINDS if scene.is_chart else SHAPE_SCENE_KINDS


def previous_words(scene: Scene, owners: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Cells of words on a page, and the cells of the word before each; no cells where there is no page."""
    cells, previous = np.zeros(PREVIOUS, np.int64), np.zeros((PREVIOUS, len(owners)), bool)
    words = [index for index in range(1, len(scene.objects)) if scene.objects[index].kind == "word"]
    for row, index in enumerate(rng.permutation(words)[:PREVIOUS].tolist()):
        inside = scene.objects[index].text_cells
        cells[row] = inside[int(rng.integers(len(inside)))]
        previous[row, list(scene.objects[index - 1].text_cells)] = True
    return {"word": cells, "previous": previous}


def encode_scene(family: Family, scene: Scene, rng: np.random.Generator, questions: int) -> dict[str, np.ndarray]:
    """One image with its patch targets and `questions` packed questions."""
    owners = patch_owners(scene)
    kinds = _kinds_about(scene, family)
    encoded: list[dict[str, np.ndarray]] = []
    while len(encoded) < questions:
        question = ask(scene, kinds[int(rng.integers(len(kinds)))], rng, family.domain.kinds)
        if question is not None:
            encoded.append(encode_question(family, scene, question, owners))
    return {
        "image": scene.image,
        "words": patch_words(scene, owners, family.vocabulary),
        "geometry": patch_geometry(scene, owners),
        "place": patch_places(scene),
        **previous_words(scene, owners, rng),
        **{key: np.stack([item[key] for item in encoded]) for key in encoded[0]},
    }


class SceneBatches(Dataset):
    """Item i is batch `start` + i of a training run: a dict of arrays with a leading batch dimension.

    All scenes of a batch have one size.
    """

    def __init__(self, family: Family, steps: int, images: int, questions: int, seed: int, start: int = 0):
        self.family, self.steps, self.images, self.questions, self.seed = family, steps, images, questions, seed
        self.start = start

    def __len__(self) -> int:
        return self.steps - self.start

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        step = self.start + index
        if step >= self.steps:
            raise IndexError(index)
        grid = self.family.grid(self.seed, step)
        first = self.seed * 10**9 + step * self.images
        draw = self.family.domain.draw
        items = [
            encode_scene(self.family, draw(seed, "train", grid), np.random.default_rng([seed, 1]), self.questions)
            for seed in range(first, first + self.images)
        ]
        return {key: np.stack([item[key] for item in items]) for key in items[0]}
