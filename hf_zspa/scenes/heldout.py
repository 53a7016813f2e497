"""Held-out questions: scenes training never draws, a fixed number of questions of each kind."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from .domains import SCENES, Domain
from .questions import Question, ask, is_about_held_out
from .scene import SPLITS, Scene


@dataclass(frozen=True)
class HeldOut:
    """`images` (height, width, 3) uint8 each; a question belongs to the image whose index it comes with."""

    images: list[np.ndarray]
    questions: list[tuple[int, Question]]


def scene_questions(seed: int, split: str = "held-out", domain: Domain = SCENES) -> tuple[Scene, Iterator[Question]]:
    """The scene of a seed, and at most one question of each kind about it."""
    scene = domain.scene(seed, split)
    rng = np.random.default_rng([SPLITS[split], seed, 1])
    asked = (ask(scene, kind, rng, domain.kinds) for kind in domain.kinds)
    return scene, (question for question in asked if question is not None)


def collect(per_kind: int, split: str = "held-out", domain: Domain = SCENES, first_seed: int = 0) -> HeldOut:
    """The first `per_kind` questions of each kind, in the order of seeds.

    In the split "unseen" every question needs a held-out combination, and as many existence
    questions are answered by yes as by no, as elsewhere.
    """
    kinds = domain.unseen_kinds if split == "unseen" else tuple(domain.kinds)
    images: list[np.ndarray] = []
    questions: list[tuple[int, Question]] = []
    count: Counter[tuple[str, str]] = Counter()
    seed = first_seed
    while len(questions) < per_kind * len(kinds):
        scene, asked = scene_questions(seed, split, domain)
        seed += 1
        used = False
        for question in asked:
            share = _share(question, split)
            quota = per_kind // 2 if share[1] else per_kind
            wanted = question.kind in kinds and (split != "unseen" or is_about_held_out(scene, question))
            if wanted and count[share] < quota:
                count[share] += 1
                questions.append((len(images), question))
                used = True
        if used:
            images.append(scene.image)
    return HeldOut(images, questions)


def _share(question: Question, split: str) -> tuple[str, str]:
    balanced = split == "unseen" and question.kind == "existence"
    return question.kind, question.answer if balanced else ""
