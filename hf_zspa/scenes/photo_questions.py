"""Questions about photographs in natural wording, most of whose words do not matter, each with one right answer.

Eight kinds: existence, attribute, exclusion, relation, reading and extreme about objects; next and line about a page
of words. "Exclusion" names an object only to say that it is not meant.
"""

import numpy as np

from .questions import Asker, Question, absent, only, outermost, pick
from .scene import Scene, SceneObject
from .vocabulary import LINE_NUMBERS, SHAPES, word_pieces

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


def _existence(scene: Scene, rng: np.random.Generator) -> Question | None:
    things = scene.objects
    if not things or things[0].kind == "word":
        return None
    cores = ("is there ONE ?", "can you see ONE here ?", "is there ONE in this photo ?", "does it have ONE anywhere ?")
    if rng.random() < 0.5:
        i = int(rng.integers(len(things)))
        colour, kind, answer = things[i].colour, things[i].kind, "yes"
        about: tuple[int, ...] = (i,)
    else:
        colour, kind = absent(scene, rng, (*SHAPES, "sign"))
        answer = "no"
        about = tuple(i for i, thing in enumerate(things) if colour == thing.colour or kind == thing.kind)
    article = "an" if colour == "orange" else "a"
    text, nouns = compose(rng, cores, ONE=f"{article} {colour} {kind}")
    return Question("existence", text, answer, about, ((nouns["ONE"], about[0]),) if answer == "yes" else ())


def _attribute(scene: Scene, rng: np.random.Generator) -> Question | None:
    things = scene.objects
    kinds, colours = [thing.kind for thing in things], [thing.colour for thing in things]
    form = int(rng.integers(3))
    cores: tuple[str, ...]
    if form == 0:
        fitting = [i for i, thing in enumerate(things) if thing.is_shape and only(kinds, thing.kind)]
        cores = (
            "what colour is the ONE ?",
            "can you say what colour the ONE has ?",
            "the ONE here , what colour is it ?",
        )
    elif form == 1:
        fitting = [i for i, thing in enumerate(things) if thing.is_shape and only(colours, thing.colour)]
        cores = ("what shape is ONE ?", "which shape here is ONE ?", "what shape does the ONE thing have ?")
    else:
        fitting = [i for i, thing in enumerate(things) if thing.kind == "sign"]
        cores = ("what colour is the sign with ONE ?", "there is a sign that says ONE , what colour is it ?")
    if not fitting:
        return None
    i = pick(rng, fitting)
    thing = things[i]
    text, nouns = compose(rng, cores, ONE=(thing.kind, thing.colour, thing.text)[form])
    return Question("attribute", text, thing.kind if form == 1 else thing.colour, (i,), ((nouns["ONE"], i),))


def _exclusion(scene: Scene, rng: np.random.Generator) -> Question | None:
    """Of two things alike the one that the question does not name, or one thing while another is to be ignored."""
    form = int(rng.integers(4))
    things = scene.objects
    if form == 3:
        return _with_something_ignored(scene, rng)
    alike = [thing.colour if form == 1 else thing.kind for thing in things]
    pairs = [[j for j, other in enumerate(alike) if other == mine] for mine in alike]
    pairs = [pair for pair in pairs if len(pair) == 2 and all((things[i].kind == "sign") == (form == 2) for i in pair)]
    if not pairs:
        return None
    i, j = rng.permutation(pick(rng, pairs)).tolist()  # i is meant, j is named
    cores: tuple[str, ...]
    if form == 0:
        cores = (
            "not the ONE but the other TWO : what colour is it ?",
            "there is the ONE , but what colour is the other TWO ?",
            "what colour is the TWO that is not ONLY ?",
        )
        answer = things[i].colour
    elif form == 1:
        cores = (
            "not the ONE but the other TWO thing : what shape is it ?",
            "there is the ONE , but what shape is the other TWO thing ?",
        )
        answer = things[i].kind
    else:
        cores = (
            "not the ONE but the other TWO : what is written on it ?",
            "there is the ONE , but what does the other TWO say ?",
        )
        answer = things[i].text or ""
    fields = {"ONE": _described(things[j]), "TWO": alike[i], "ONLY": things[j].colour}
    text, nouns = compose(rng, cores, **fields)
    named = ((nouns["ONE"], j), (nouns["TWO"], i)) if "ONE" in nouns else ()
    return Question("exclusion", text, answer, (i,), named)


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


def _relation(scene: Scene, rng: np.random.Generator) -> Question | None:
    i, j = (int(index) for index in rng.permutation(len(scene.objects))[:2])
    first, second = scene.objects[i], scene.objects[j]
    if not (_is_unique(scene, i) and _is_unique(scene, j)):
        return None
    vertical = rng.random() < 0.5
    words, answers = ("above or below", ("above", "below")) if vertical else ("left or right of", ("left", "right"))
    gap = first.y - second.y if vertical else first.x - second.x
    if abs(gap) < MARGIN:
        return None
    cores = (f"is the ONE {words} the TWO ?", f"does the ONE stand {words} the TWO ?")
    text, nouns = compose(rng, cores, ONE=_described(first), TWO=_described(second))
    return Question("relation", text, answers[int(gap > 0)], (i, j), ((nouns["ONE"], i), (nouns["TWO"], j)))


def _reading(scene: Scene, rng: np.random.Generator) -> Question | None:
    signs = [i for i, thing in enumerate(scene.objects) if thing.kind == "sign"]
    if not signs:
        return None
    i = pick(rng, signs)
    cores = (
        "what is written on the ONE ?", "what does the ONE say ?", "can you read the ONE out to me ?",
        "there is the ONE , what is written on it ?",
    )  # fmt: skip
    text, nouns = compose(rng, cores, ONE=_described(scene.objects[i]))
    return Question("reading", text, scene.objects[i].text or "", (i,), ((nouns["ONE"], i),))


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
    "existence": _existence,
    "attribute": _attribute,
    "exclusion": _exclusion,
    "relation": _relation,
    "reading": _reading,
    "extreme": _extreme,
    "next": _next,
    "line": _line,
}
