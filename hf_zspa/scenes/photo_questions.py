"""Questions about photographs in natural wording, most of whose words do not matter, each with one right answer.

Five kinds: attribute, exclusion and extreme about objects, next and line about a page of words. "Exclusion" names an
object only to say that it is not meant.
"""

import numpy as np

from .questions import Asker, Question, only, outermost, pick
from .scene import Scene, SceneObject
from .vocabulary import LINE_NUMBERS, word_pieces

MARGIN = 24.0  # pixels between what is compared: two cells
LONGEST = 22  # word pieces of a question

OPENINGS = (
    "", "", "please tell me :", "hello !", "i have a question :", "look at this picture .", "my friend asks :",
    "could you help me ?", "i would like to know :", "please look and tell me :", "hello , can you help ?",
)  # fmt: skip
CLOSINGS = ("", "", "thank you !", "please just answer .", "thank you so far .", "please .", "i have to know .")


def compose(rng: np.random.Generator, cores: tuple[str, ...], **things: str) -> tuple[str, dict[str, int]]:
    """A question with one of the cores, and the index of the last word of each thing that fills a field of it.

    A field is a word in capitals, such as ONE.
    """
    core = pick(rng, cores).split()
    while True:
        words: list[str] = []
        nouns: dict[str, int] = {}
        for word in [*pick(rng, OPENINGS).split(), *core, *pick(rng, CLOSINGS).split()]:
            words += things[word].split() if word in things else [word]
            if word in things:
                nouns[word] = len(words) - 1
        if sum(len(word_pieces(word)) for word in words) <= LONGEST:
            return " ".join(words), nouns


def _described(thing: SceneObject) -> str:
    return f"{thing.colour} {thing.kind}"


def _is_unique(scene: Scene, index: int) -> bool:
    return only([_described(thing) for thing in scene.objects], _described(scene.objects[index]))


def _attribute(scene: Scene, rng: np.random.Generator) -> Question | None:
    """The colour of a shape, or of the sign that says something."""
    things = scene.objects
    kinds = [thing.kind for thing in things]
    of_sign = rng.random() < 0.5
    cores: tuple[str, ...]
    if of_sign:
        fitting = [i for i, thing in enumerate(things) if thing.kind == "sign"]
        cores = ("what colour is the sign with ONE ?", "there is a sign that says ONE , what colour is it ?")
    else:
        fitting = [i for i, thing in enumerate(things) if thing.is_shape and only(kinds, thing.kind)]
        cores = (
            "what colour is the ONE ?", "can you say what colour the ONE has ?", "the ONE here , what colour is it ?",
        )  # fmt: skip
    if not fitting:
        return None
    i = pick(rng, fitting)
    text, nouns = compose(rng, cores, ONE=(things[i].text if of_sign else things[i].kind) or "")
    return Question("attribute", text, things[i].colour, (i,), ((nouns["ONE"], i),))


def _exclusion(scene: Scene, rng: np.random.Generator) -> Question | None:
    """Of two shapes alike the one that is not named, or one shape while another thing is to be ignored."""
    if rng.random() < 0.4:
        return _with_something_ignored(scene, rng)
    things = scene.objects
    pairs = [[j for j, other in enumerate(things) if other.kind == thing.kind and thing.is_shape] for thing in things]
    pairs = [pair for pair in pairs if len(pair) == 2]
    if not pairs:
        return None
    i, j = rng.permutation(pick(rng, pairs)).tolist()  # i is meant, j is named
    cores = (
        "not the ONE but the other TWO : what colour is it ?",
        "there is the ONE , but what colour is the other TWO ?",
        "what colour is the TWO that is not ONLY ?",
    )
    text, nouns = compose(rng, cores, ONE=_described(things[j]), TWO=things[i].kind, ONLY=things[j].colour)
    named = ((nouns["ONE"], j), (nouns["TWO"], i)) if "ONE" in nouns else ()
    return Question("exclusion", text, things[i].colour, (i,), named)


def _with_something_ignored(scene: Scene, rng: np.random.Generator) -> Question | None:
    things = scene.objects
    kinds = [thing.kind for thing in things]
    fitting = [i for i, thing in enumerate(things) if thing.is_shape and only(kinds, thing.kind)]
    others = [j for j in range(len(things)) if _is_unique(scene, j)]
    if not fitting or not others:
        return None
    i, j = pick(rng, fitting), pick(rng, others)
    if i == j:
        return None
    cores = ("ignore the ONE . what colour is the TWO ?", "never mind the ONE , what colour does the TWO have ?")
    text, nouns = compose(rng, cores, ONE=_described(things[j]), TWO=things[i].kind)
    return Question("exclusion", text, things[i].colour, (i,), ((nouns["ONE"], j), (nouns["TWO"], i)))


def _extreme(scene: Scene, rng: np.random.Generator) -> Question | None:
    shapes = [i for i, thing in enumerate(scene.objects) if thing.is_shape]
    side = int(rng.integers(4))
    farthest = outermost([scene.objects[i] for i in shapes], side, MARGIN)
    if farthest is None:
        return None
    i = shapes[farthest]
    word = ("leftmost", "topmost", "rightmost", "bottommost")[side]
    cores = (f"what colour is the {word} shape ?", f"the {word} shape here , what colour does it have ?")
    text, _ = compose(rng, cores)
    return Question("extreme", text, scene.objects[i].colour, (i,))


def _next(scene: Scene, rng: np.random.Generator) -> Question | None:
    cores = (
        "which word comes right after ONE ?",
        "on this page , which word comes after ONE ?",
        "what comes right after ONE here ?",
    )
    return _after(scene, rng, "next", cores, of_number=False)


def _line(scene: Scene, rng: np.random.Generator) -> Question | None:
    cores = (
        "which word comes first in line ONE ?",
        "what is the first word in line ONE ?",
        "can you read me the first word of line ONE ?",
    )
    return _after(scene, rng, "line", cores, of_number=True)


def _after(
    scene: Scene, rng: np.random.Generator, kind: str, cores: tuple[str, ...], of_number: bool
) -> Question | None:
    """The word that follows another, or the number of a line, on the page."""
    words = scene.objects
    is_number = [thing.text in LINE_NUMBERS for thing in words]
    fitting = [i for i in range(len(words) - 1) if is_number[i] == of_number and not is_number[i + 1]]
    fitting = [i for i in fitting if words[i].kind == words[i + 1].kind == "word"]
    if not fitting:
        return None
    i = pick(rng, fitting)
    text, nouns = compose(rng, cores, ONE=words[i].text or "")
    return Question(kind, text, words[i + 1].text or "", (i + 1,), ((nouns["ONE"], i),))


PHOTO_KINDS: dict[str, Asker] = {
    "attribute": _attribute,
    "exclusion": _exclusion,
    "extreme": _extreme,
    "next": _next,
    "line": _line,
}
