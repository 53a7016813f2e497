"""Training batches: scenes with packed questions and everything the losses look at.

Numpy only, so that a data worker stays light. Batch number and seed decide the whole content.
"""

import numpy as np
from torch.utils.data import Dataset

from .questions import KINDS, Question, ask
from .scenes import GRID, IMAGE_SIZE, PATCH_SIZE, Scene, draw_scene
from .vocabulary import TOKEN_ID, VISIBLE_INDEX, VISIBLE_WORDS, token_ids, word_pieces

PATCHES = GRID * GRID
QUESTION_LENGTH = 15  # the longest question, "ASSISTANT:" and an answer of two tokens
IGNORED = -100
# How often a kind is drawn: what is learnt last comes most often.
SHAPE_SCENE_KINDS = ("existence",) * 3 + ("attribute",) * 2 + ("relation",) * 2 + ("reading",) + ("extreme",) * 3
CHART_SCENE_KINDS = ("existence",) * 2 + ("attribute", "relation", "reading", "extreme") + ("chart",) * 3
# What a pointer slot says: at this token, look at these patches.
SLOTS = ("answer", "answer_second", "noun", "noun_second")


def patch_owners(scene: Scene) -> np.ndarray:
    """(144, objects) float: the share of each patch that shows each object."""
    blocks = scene.owner.reshape(GRID, PATCH_SIZE, GRID, PATCH_SIZE)
    shown = blocks[..., None] == np.arange(1, len(scene.objects) + 1)
    return shown.mean((1, 3)).reshape(PATCHES, -1)


def patch_words(scene: Scene, owners: np.ndarray) -> np.ndarray:
    """(144, visible words) bool: what each patch shows: colours, kinds, and the character of a sign."""
    words = np.zeros((PATCHES, len(VISIBLE_WORDS)), bool)
    for index, thing in enumerate(scene.objects):
        seen = owners[:, index] >= 0.12
        for word in (thing.colour, thing.kind, "shape" if thing.is_shape else thing.kind):
            words[seen, VISIBLE_INDEX[word]] = True
        for cell, piece in zip(thing.text_cells, word_pieces(thing.text) if thing.text else (), strict=True):
            words[cell, VISIBLE_INDEX[piece]] = True
    return words


def patch_geometry(scene: Scene, owners: np.ndarray) -> np.ndarray:
    """(144, 4) float32: centre x, centre y, width and height of the object a patch shows most; NaN elsewhere."""
    boxes = np.array([thing.box for thing in scene.objects], np.float32) / IMAGE_SIZE
    centre, size = (boxes[:, :2] + boxes[:, 2:]) - 1, (boxes[:, 2:] - boxes[:, :2]) * 2 - 0.5
    geometry = np.concatenate([centre, size], 1)[owners.argmax(1)]
    geometry[owners.max(1) < 0.12] = np.nan
    return geometry


def encode_question(scene: Scene, question: Question, owners: np.ndarray) -> dict[str, np.ndarray]:
    """Token ids, next-token targets and pointers of one question, padded to `QUESTION_LENGTH`."""
    prompt, answer = token_ids(question.text), token_ids(question.answer)
    start = len(prompt)  # where "ASSISTANT:" stands
    tokens = np.full(QUESTION_LENGTH, TOKEN_ID["<pad>"])
    targets = np.full(QUESTION_LENGTH, IGNORED)
    tokens[: start + 1 + len(answer)] = [*prompt, TOKEN_ID["ASSISTANT:"], *answer]
    targets[start : start + 1 + len(answer)] = [*answer, TOKEN_ID["<eos>"]]

    slot_position = np.zeros(len(SLOTS), np.int64)
    slot_patches = np.zeros((len(SLOTS), PATCHES), bool)
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
        noun_place[slot] = thing.x / IMAGE_SIZE * 2 - 1, thing.y / IMAGE_SIZE * 2 - 1
    return {
        "tokens": tokens,
        "targets": targets,
        "slot_position": slot_position,
        "slot_patches": slot_patches,
        "noun_place": noun_place,
        "kind": np.int64(list(KINDS).index(question.kind)),
    }


def encode_scene(scene: Scene, rng: np.random.Generator, questions: int) -> dict[str, np.ndarray]:
    """One image with its patch targets and `questions` packed questions."""
    owners = patch_owners(scene)
    kinds = CHART_SCENE_KINDS if scene.is_chart else SHAPE_SCENE_KINDS
    encoded: list[dict[str, np.ndarray]] = []
    while len(encoded) < questions:
        question = ask(scene, kinds[int(rng.integers(len(kinds)))], rng)
        if question is not None:
            encoded.append(encode_question(scene, question, owners))
    return {
        "image": scene.image,
        "words": patch_words(scene, owners),
        "geometry": patch_geometry(scene, owners),
        **{key: np.stack([item[key] for item in encoded]) for key in encoded[0]},
    }


class SceneBatches(Dataset):
    """Item i is batch i of a training run: a dict of arrays with a leading batch dimension."""

    def __init__(self, steps: int, images: int, questions: int, seed: int):
        self.steps, self.images, self.questions, self.seed = steps, images, questions, seed

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> dict[str, np.ndarray]:
        if step >= self.steps:
            raise IndexError(step)
        first = self.seed * 10**9 + step * self.images
        items = [
            encode_scene(draw_scene(seed), np.random.default_rng([seed, 1]), self.questions)
            for seed in range(first, first + self.images)
        ]
        return {key: np.stack([item[key] for item in items]) for key in items[0]}
