"""The main job on the embedded checkpoint: a question about an image, answered with all and with few visual tokens."""

import json
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from ..checkpoints.shipped import shipped_checkpoint
from ..models.given import check_prompt, open_image
from ..output import picture_file, save_picture
from ..remote_code.zspa_config import check_given
from ..scenes import EXAMPLES

if TYPE_CHECKING:
    from .selection import Selection

EXAMPLE = "relation"
REPEATS = 5  # generations whose median time is shown, after one to warm up


@dataclass
class Answer:
    """What a generation said of how many visual tokens, and its median times in seconds."""

    text: str
    tokens: int
    first_token: float
    total: float


@dataclass
class Demonstration:
    """A question, answered from all visual tokens and from those that were kept.

    Attributes:
        right_answer: to the example's own question; None to another.
        picture: the file with the picture of what was kept.
    """

    question: str
    right_answer: str | None
    picture: Path
    unpruned: Answer
    pruned: Answer
    selection: "Selection"


def demo(
    output: str | Path = "zspa-demo.png",
    image_file: str | Path | None = None,
    prompt: str | None = None,
    **settings: Any,
) -> Demonstration:
    """Answers with all tokens and with the pruned ones, and writes the picture.

    Args:
        image_file: None for an example scene.
        prompt: None for the example's question.
        settings: `keep_ratio`, `method`, `core_ratio`, `relevance_weight`, `pooling` and `centre`, in place of the
            checkpoint's.

    Raises:
        ValueError: a file or a setting is not what it should be, or the small model does not know a word of the prompt.
    """
    target = picture_file(output)
    image, prompt, right = _asked(image_file, prompt)
    asked = {f"zspa_{name}": value for name, value in settings.items()}
    check_given(asked)
    import torch  # which takes seconds, as the others do

    from ..loading import load_zspa, question_inputs
    from .panels import picture
    from .selection import explain
    from .token_grid import token_views

    torch.set_num_threads(1)  # the model is too small to share its work out
    model, processor = load_zspa(shipped_checkpoint("embedded"))
    check_words(processor.tokenizer, prompt)
    inputs = question_inputs(model, processor, image, prompt)
    selection = explain(model, inputs, **settings)
    views = token_views(model, processor, inputs, image, len(selection.scores))
    everything = answer(model, processor, inputs, len(selection.scores), zspa_keep_ratio=1.0)
    pruned = answer(model, processor, inputs, len(selection.kept), **asked)
    notes = [f"answer from {said.tokens} tokens: {said.text}" for said in (everything, pruned)]
    save_picture(picture(views, selection, prompt, notes), target)
    return Demonstration(prompt, right, target, everything, pruned, selection)


def _asked(image_file: str | Path | None, prompt: str | None) -> tuple[Image.Image, str, str | None]:
    """The image, the question, and where it is the example's own the right answer."""
    if image_file is not None and prompt is None:
        raise ValueError("--image needs a question about it: add --prompt")
    if prompt is not None:
        check_prompt(prompt, "--prompt")
    example = next(e for e in json.loads((EXAMPLES / "examples.json").read_text("utf-8")) if e["kind"] == EXAMPLE)
    image = open_image(image_file or EXAMPLES / example["file"])
    return (image, prompt, None) if prompt else (image, example["question"], example["answer"])


def answer(model, processor, inputs, tokens: int, **settings) -> Answer:
    """Generates greedily, a few times, from so many visual tokens."""
    from transformers import StoppingCriteriaList

    from ..loading import FirstTokenClock

    runs = []
    for _ in range(1 + REPEATS):
        clock = FirstTokenClock(model.device)
        ids = model.generate(
            **inputs, do_sample=False, max_new_tokens=8, stopping_criteria=StoppingCriteriaList([clock]), **settings
        )
        runs.append((clock.first_token, clock.now()))
    first_tokens, totals = zip(*runs[1:])
    text = processor.decode(ids[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True).strip()
    return Answer(text, tokens, statistics.median(first_tokens), statistics.median(totals))


def check_words(tokenizer, prompt: str) -> None:
    """Raises `ValueError` where an embedded model does not know a word of a prompt."""
    unknown = [word for word in prompt.split() if tokenizer.unk_token_id in tokenizer(word)["input_ids"]]
    if unknown:
        raise ValueError(
            f"the embedded model has a small vocabulary without {', '.join(map(repr, unknown))}: ask for example "
            "'what colour is the star?', 'is there a yellow circle?' or 'what is written on the blue sign?'"
        )
