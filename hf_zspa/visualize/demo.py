"""The main job on the embedded checkpoint: a question about an image, answered with all and with few visual tokens."""

import json
import statistics
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from rich.console import Console
from rich.table import Table
from transformers import StoppingCriteriaList

from ..bench.clock import FirstTokenClock
from ..loading import load_zspa, open_image, question_inputs
from ..output import picture_file, save_picture
from ..scenes import CHECKPOINT, EXAMPLES
from .panels import picture
from .selection import explain
from .token_grid import token_views

ZSPA_CHECKPOINT = CHECKPOINT.with_name("checkpoint-zspa")
EXAMPLE = "relation"
REPEATS = 5  # generations whose median time is shown, after one to warm up


@dataclass
class Answer:
    """What a generation said, and its median times in seconds."""

    text: str
    first_token: float
    total: float


def demo(
    output: str | Path = "zspa-demo.png",
    image_file: str | Path | None = None,
    prompt: str | None = None,
    *,
    keep_ratio: float | None = None,
    core_ratio: float | None = None,
    console: Console | None = None,
) -> tuple[Answer, Answer]:
    """Answers with all tokens and with the pruned ones, prints a table of both and writes the picture.

    Args:
        image_file: None for an example scene.
        prompt: None for the example's question.
        keep_ratio: in place of the checkpoint's.
        core_ratio: in place of the checkpoint's.

    Raises:
        ValueError: a file or a ratio is not what it should be, or the small model does not know a word of the prompt.
    """
    console = console or Console()
    torch.set_num_threads(1)  # the model is too small to share its work out
    target = picture_file(output)
    image, prompt, right = _asked(image_file, prompt)
    model, processor = load_zspa(ZSPA_CHECKPOINT)
    _check_words(processor.tokenizer, prompt)
    inputs = question_inputs(model, processor, image, prompt)
    selection = explain(model, inputs, keep_ratio, core_ratio)
    views = token_views(model, processor, inputs, image, len(selection.scores))
    counts = len(selection.scores), len(selection.kept)
    answers = (
        answer(model, processor, inputs, zspa_keep_ratio=1.0),
        answer(model, processor, inputs, zspa_keep_ratio=keep_ratio, zspa_core_ratio=core_ratio),
    )
    notes = [f"answer from {count} tokens: {said.text}" for count, said in zip(counts, answers)]
    save_picture(picture(views, selection, prompt, notes), target)
    console.print(prompt + right, style="bold", markup=False, highlight=False)
    console.print(_table(answers, counts))
    console.print(f"picture: {target}", markup=False, highlight=False, soft_wrap=True)
    return answers


def _asked(image_file: str | Path | None, prompt: str | None) -> tuple[Image.Image, str, str]:
    """The image, the question, and where it is the example's own a word on the right answer."""
    if image_file is not None and prompt is None:
        raise ValueError("--image needs a question about it: add --prompt")
    if prompt is not None and not prompt.strip():
        raise ValueError("--prompt is empty: ask something, for example 'what colour is the star?'")
    example = next(e for e in json.loads((EXAMPLES / "examples.json").read_text("utf-8")) if e["kind"] == EXAMPLE)
    image = open_image(image_file or EXAMPLES / example["file"])
    return (image, prompt, "") if prompt else (image, example["question"], f" (right answer: {example['answer']})")


def answer(model, processor, inputs, **ratios) -> Answer:
    """Generates greedily, a few times."""
    runs = []
    for _ in range(1 + REPEATS):
        clock = FirstTokenClock(model.device)
        ids = model.generate(
            **inputs, do_sample=False, max_new_tokens=8, stopping_criteria=StoppingCriteriaList([clock]), **ratios
        )
        runs.append((clock.first_token, clock.now()))
    first_tokens, totals = zip(*runs[1:])
    text = processor.decode(ids[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True).strip()
    return Answer(text, statistics.median(first_tokens), statistics.median(totals))


def _check_words(tokenizer, prompt: str) -> None:
    unknown = [word for word in prompt.split() if tokenizer.unk_token_id in tokenizer(word)["input_ids"]]
    if unknown:
        raise ValueError(
            f"the embedded model has a small vocabulary without {', '.join(map(repr, unknown))}: ask for example "
            "'what colour is the star?', 'is there a yellow circle?' or 'what is written on the blue sign?'"
        )


def _table(answers: tuple[Answer, Answer], counts: tuple[int, int]) -> Table:
    table = Table()
    for heading in ("", "visual tokens", "kept", "first token", "total", "answer"):
        table.add_column(heading, justify="left" if heading in ("", "answer") else "right")
    for name, said, kept in zip(("all tokens", "pruned"), answers, counts):
        times = (f"{1000 * seconds:.1f} ms" for seconds in (said.first_token, said.total))
        table.add_row(name, str(counts[0]), f"{kept} ({kept / counts[0]:.0%})", *times, said.text)
    return table
