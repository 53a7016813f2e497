"""Write one example scene per kind of question: `python -m hf_zspa.scenes.training.examples`."""

import json
from itertools import count
from pathlib import Path

from PIL import Image

from .. import EXAMPLES
from ..heldout import scene_questions
from ..questions import KINDS, Question
from ..scene import Scene


def write_examples(folder: Path = EXAMPLES) -> None:
    """For each kind the first held-out scene that offers it and is not yet another kind's example."""
    folder.mkdir(exist_ok=True)
    examples: list[dict[str, object]] = []
    used: set[int] = set()
    for kind in KINDS:
        seed, scene, question = _first_with(kind, used)
        used.add(seed)
        file = f"{kind}.png"
        Image.fromarray(scene.image).save(folder / file, optimize=True)
        examples.append(
            {"file": file, "kind": kind, "seed": seed, "question": question.text, "answer": question.answer}
        )
    (folder / "examples.json").write_text(json.dumps(examples, indent=2) + "\n")


def _first_with(kind: str, used: set[int]) -> tuple[int, Scene, Question]:
    for seed in count():
        scene, asked = scene_questions(seed)
        for question in asked:
            if question.kind == kind and seed not in used:
                return seed, scene, question
    raise AssertionError("seeds do not end")


if __name__ == "__main__":
    write_examples()
