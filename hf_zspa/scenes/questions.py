"""Questions about a scene, each with exactly one right answer.

Six kinds: existence, attribute, relation, reading, chart and extreme. A question is asked only
where the scene leaves no doubt: a described object is the only one that fits the description, and
what is compared differs by a margin anyone can see.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from .scene import HELD_OUT_COMBINATIONS, Scene, SceneObject
from .vocabulary import COLOURS, SHAPES

RELATION_MARGIN = 18.0  # pixels between centres: one and a half patches
EXTREME_MARGIN = 9.0
BAR_MARGIN = 8.0


@dataclass(frozen=True)
class Question:
    """`about`: indices of the objects that decide the answer; `nouns`: (word index of the noun, object index)."""

    kind: str
    text: str
    answer: str
    about: tuple[int, ...] = ()
    nouns: tuple[tuple[int, int], ...] = ()


def pick(rng: np.random.Generator, values):
    return values[int(rng.integers(len(values)))]


def only(values: list, value) -> bool:
    return values.count(value) == 1


def _existence(scene: Scene, rng: np.random.Generator) -> Question | None:
    objects = scene.objects
    if rng.random() < 0.5:
        i = int(rng.integers(len(objects)))
        colour, kind = objects[i].colour, objects[i].kind
        return Question("existence", _is_there(colour, kind), "yes", (i,), ((4, i),))
    colour, kind = _absent(scene, rng)
    near = tuple(i for i, thing in enumerate(objects) if colour == thing.colour or kind == thing.kind)
    return Question("existence", _is_there(colour, kind), "no", near)


def _is_there(colour: str, kind: str) -> str:
    return f"is there {'an' if colour == 'orange' else 'a'} {colour} {kind} ?"


def _absent(scene: Scene, rng: np.random.Generator) -> tuple[str, str]:
    """A colour and a kind that are mostly both in the scene, but not together."""
    present = {(thing.colour, thing.kind) for thing in scene.objects}
    colours, kinds = [thing.colour for thing in scene.objects], [thing.kind for thing in scene.objects]
    while True:
        if scene.split == "unseen":
            pair = pick(rng, sorted(HELD_OUT_COMBINATIONS))
        else:
            colour = pick(rng, colours if rng.random() < 0.85 else list(COLOURS))
            pair = (colour, pick(rng, kinds if rng.random() < 0.85 else [*SHAPES, "sign", "bar"]))
        if pair not in present and (scene.split == "unseen") == (pair in HELD_OUT_COMBINATIONS):
            return pair


def _attribute(scene: Scene, rng: np.random.Generator) -> Question | None:
    objects = scene.objects
    kinds, colours = [thing.kind for thing in objects], [thing.colour for thing in objects]
    form = int(rng.integers(3))
    if form == 0:
        fitting = [i for i, thing in enumerate(objects) if thing.is_shape and only(kinds, thing.kind)]
    elif form == 1:
        fitting = [i for i, thing in enumerate(objects) if thing.is_shape and only(colours, thing.colour)]
    else:
        fitting = [i for i, thing in enumerate(objects) if thing.text]
    if not fitting:
        return None
    i = pick(rng, fitting)
    thing = objects[i]
    if form == 0:
        return Question("attribute", f"what colour is the {thing.kind} ?", thing.colour, (i,), ((4, i),))
    if form == 1:
        return Question("attribute", f"what shape is {thing.colour} ?", thing.kind, (i,), ((3, i),))
    text = f"what colour is the sign with {thing.text} ?"
    return Question("attribute", text, thing.colour, (i,), ((6, i),))


def _relation(scene: Scene, rng: np.random.Generator) -> Question | None:
    i, j = (int(index) for index in rng.permutation(len(scene.objects))[:2])
    first, second = scene.objects[i], scene.objects[j]
    descriptions = [(thing.colour, thing.kind) for thing in scene.objects]
    if not all(only(descriptions, descriptions[index]) for index in (i, j)):
        return None
    vertical = rng.random() < 0.5
    if vertical and "bar" in (first.kind, second.kind):
        return None  # a tall bar is beside many things, above and below none
    words, answers = ("above or below", ("above", "below")) if vertical else ("left or right of", ("left", "right"))
    gap = first.y - second.y if vertical else first.x - second.x
    if abs(gap) < RELATION_MARGIN:
        return None
    text = f"is the {first.colour} {first.kind} {words} the {second.colour} {second.kind} ?"
    last = len(text.split()) - 2
    return Question("relation", text, answers[int(gap > 0)], (i, j), ((3, i), (last, j)))


def _reading(scene: Scene, rng: np.random.Generator) -> Question | None:
    signs = [i for i, thing in enumerate(scene.objects) if thing.text]
    if not signs:  # a small scene may have had no room for one
        return None
    i = pick(rng, signs)
    sign = scene.objects[i]
    return Question("reading", f"what is written on the {sign.colour} sign ?", sign.text, (i,), ((6, i),))


def _chart(scene: Scene, rng: np.random.Generator) -> Question | None:
    bars = sorted((i for i, thing in enumerate(scene.objects) if thing.kind == "bar"), key=_height_in(scene))
    if not bars:
        return None
    word, best, rival = ("tallest", bars[-1], bars[-2]) if rng.random() < 0.5 else ("shortest", bars[0], bars[1])
    if abs(scene.objects[best].height - scene.objects[rival].height) < BAR_MARGIN:
        return None
    return Question("chart", f"what colour is the {word} bar ?", scene.objects[best].colour, (best,))


def _height_in(scene: Scene) -> Callable[[int], float]:
    return lambda index: scene.objects[index].height


def _extreme(scene: Scene, rng: np.random.Generator) -> Question | None:
    shapes = [i for i, thing in enumerate(scene.objects) if thing.is_shape]
    large = [i for i in shapes if scene.objects[i].large]
    form = int(rng.integers(5))
    if form == 4:
        if len(large) != 1:
            return None
        word, i = "largest", large[0]
    else:
        word = ("leftmost", "topmost", "rightmost", "bottommost")[form]
        farthest = outermost([scene.objects[index] for index in shapes], form)
        if farthest is None:
            return None
        i = shapes[farthest]
    return Question("extreme", f"what colour is the {word} shape ?", scene.objects[i].colour, (i,))


def outermost(shapes: list[SceneObject], side: int, margin: float = EXTREME_MARGIN) -> int | None:
    """Index of the shape farthest to a side (0 left, 1 top, 2 right, 3 bottom) by centre and by edge alike."""
    if len(shapes) < 2:
        return None
    sign = 1 if side < 2 else -1
    centres = np.array([sign * (thing.x if side % 2 == 0 else thing.y) for thing in shapes])
    edges = np.array([sign * thing.box[side] for thing in shapes])
    order = np.argsort(centres)
    others = np.delete(edges, order[0])
    clear = centres[order[1]] - centres[order[0]] >= margin and edges[order[0]] < others.min()
    return int(order[0]) if clear else None


Asker = Callable[[Scene, np.random.Generator], Question | None]
KINDS: dict[str, Asker] = {
    "existence": _existence,
    "attribute": _attribute,
    "relation": _relation,
    "reading": _reading,
    "chart": _chart,
    "extreme": _extreme,
}


def is_about_held_out(scene: Scene, question: Question) -> bool:
    """Whether a question of the split "unseen" needs a combination that training never showed."""
    words = question.text.split()
    if any(pair in HELD_OUT_COMBINATIONS for pair in zip(words, words[1:], strict=False)):
        return True
    things = [scene.objects[i] for i in question.about]
    return question.answer != "no" and any((t.colour, t.kind) in HELD_OUT_COMBINATIONS for t in things)


def ask(
    scene: Scene, kind: str, rng: np.random.Generator, kinds: Mapping[str, Asker] = KINDS, attempts: int = 8
) -> Question | None:
    """A question of a kind about a scene, or None when the scene has no clear one to offer."""
    for _ in range(attempts):
        question = kinds[kind](scene, rng)
        if question is not None:
            return question
    return None
