"""The page: a picture, a question and sliders; both answers, and what is kept as the sliders move."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
import torch

from ..models.given import open_image
from ..pruners.registry import METHODS
from ..remote_code.zspa_methods import METHODS as TRAVELLING
from ..scenes import EXAMPLES
from ..visualize.demo import Answer
from .answering import Answering
from .markup import answers, panels

DIALS = {  # the settings of methods that have a slider: its smallest value, and what it does
    "core_ratio": (0.0, "Share of those chosen by relevance alone"),
    "relevance_weight": (-1.0, "How much relevance counts; 0 is diversity alone"),
}
ALL, KEPT = "Answer from all tokens", "Answer from the kept tokens"
BEFORE = answers({ALL: None, KEPT: None}, "Choose a picture, ask about it, and the answer appears here.")
HOUR = 3600  # seconds that uploaded pictures stay
WAITING = 20  # questions in the queue, at most


def build(answering: Answering) -> gr.Blocks:
    """The page that asks a checkpoint."""
    samples = json.loads((EXAMPLES / "examples.json").read_text("utf-8"))
    questions = [sample["question"] for sample in samples]
    with gr.Blocks(title=f"{answering.name} · hf_zspa", analytics_enabled=False, delete_cache=(HOUR, HOUR)) as page:
        small = " It is a small model, which knows few words." if answering.small else ""
        gr.Markdown(
            f"# What a question needs of a picture\n**{answering.name}** reads a picture as visual tokens. Compare its "
            f"answer from all of them with its answer from those that are kept for your question.{small}"
        )
        asked = gr.State(None)  # the file, the name and the question that is shown
        with gr.Row():
            with gr.Column():
                picture = gr.Image(label="Picture", type="filepath", sources=["upload", "clipboard"], height=360)
            with gr.Column():
                question = gr.Textbox(label="Question", placeholder="What colour is the star?", max_lines=4)
                with gr.Row():
                    button, stop = gr.Button("Ask", variant="primary", scale=3), gr.Button("Stop", min_width=80)
                gr.Examples(
                    [[str(EXAMPLES / sample["file"]), sample["question"]] for sample in samples], [picture, question],
                    label="Examples", example_labels=questions,
                )  # fmt: skip
        said = gr.HTML(BEFORE)
        keep_ratio, method, dials = controls(answering.model.config)
        drawn = gr.HTML()

        def settings_of(share: float, name: str, *values: float) -> dict[str, Any]:
            read = METHODS[name].reads if name in METHODS else ()
            return {"keep_ratio": share, "method": name} | {k: v for k, v in zip(dials, values) if k in read}

        def ask(file: dict | None, text: str, *chosen) -> Iterator[dict]:
            shown: dict[str, Answer | None] = {ALL: None, KEPT: None}
            try:
                path, name = named(file, picture.GRADIO_CACHE)
                with one_sentence(path, name):
                    found, settings = answering.question(path, text), settings_of(*chosen)
                    selection = answering.select(found, **settings)
                    parts = ((ALL, len(selection.scores), {"keep_ratio": 1.0}), (KEPT, len(selection.kept), settings))
                    yield {asked: (path, name, text), drawn: panels(found.views, selection), said: answers(shown)}
                    for title, tokens, given in parts:
                        for shown[title] in answering.answer(path, text, tokens, **given):
                            yield {said: answers(shown)}
            except Exception as error:  # no answer to another question stays beside it
                reason = error.message if isinstance(error, gr.Error) else "something went wrong, as the log says"
                yield {asked: None, drawn: "", said: answers({"No answer": None}, reason)}
                raise

        def redraw(known: tuple[str, str, str] | None, *chosen) -> dict:
            if known is None:
                return {drawn: ""}
            path, name, text = known
            with one_sentence(path, name):
                found = answering.question(path, text)
                selection = answering.select(found, **settings_of(*chosen))
                return {drawn: panels(found.views, selection, "Ask again for the answer from these.")}

        choice, private = [keep_ratio, method, *dials.values()], {"api_visibility": "private"}
        asking = gr.on(
            [button.click, question.submit], ask, [picture, question, *choice], [asked, said, drawn], preprocess=False,
            api_name="ask", show_progress="minimal", show_progress_on=said, trigger_mode="once",
        )  # fmt: skip
        gr.on(
            [control.input for control in choice], redraw, [asked, *choice], [drawn], preprocess=False,
            api_name="redraw", show_progress="hidden", trigger_mode="always_last",
        )  # fmt: skip
        method.change(
            lambda name: [gr.update(visible=dial in METHODS[name].reads) for dial in dials], method, [*dials.values()],
            queue=False, **private,
        )  # fmt: skip
        # What is on its way when a generation is cancelled has arrived before what comes then.
        stop.click(None, cancels=[asking], **private).then(stopped, said, said, queue=False, **private)
        picture.upload(partial(check, folder=picture.GRADIO_CACHE), picture, preprocess=False, **private)
        picture.change(None, cancels=[asking], **private).then(
            lambda: (None, BEFORE, ""), None, [asked, said, drawn], queue=False, **private
        )
    return page.queue(max_size=WAITING)  # each event runs for one person at a time


def controls(config) -> tuple[gr.Slider, gr.Radio, dict[str, gr.Slider]]:
    """What chooses the tokens, set as in a checkpoint's config; the dials of methods by the names of their settings."""
    with gr.Row():
        keep_ratio = gr.Slider(
            0.01, 1, config.zspa_keep_ratio, step=step_to(config.zspa_keep_ratio, 0.01), label="Keep ratio",
            info="Share of the picture's tokens that are kept", min_width=280,
        )  # fmt: skip
        method = gr.Radio(
            [(METHODS[name].label, name) for name in TRAVELLING], value=config.zspa_method, label="Method",
            info="How they are chosen", min_width=280,
        )  # fmt: skip
        dials = {
            name: gr.Slider(
                low, 1, value := getattr(config, f"zspa_{name}"), step=step_to(value, 0.05),
                label=name.replace("_", " ").capitalize(), info=words, min_width=280,
                visible=name in METHODS[config.zspa_method].reads,
            )
            for name, (low, words) in DIALS.items()
        }  # fmt: skip
    return keep_ratio, method, dials


def step_to(value: float, step: float) -> float:
    """The step of a slider that stands at a value: a finer one where the value is between two steps."""
    return step if abs(value / step - round(value / step)) < 1e-6 else 0.0005


def stopped(html: str) -> str:
    """Answers that were stopped, which grow no more."""
    return html.replace(">…<", ">stopped<")


def check(file: dict, folder: str) -> None:
    """Raises `gr.Error` where an uploaded picture cannot be used; `folder` is where uploads are."""
    path, name = named(file, folder)
    with one_sentence(path, name):
        open_image(path)


def named(file: dict | None, folder: str) -> tuple[str, str]:
    """The file of a picture, in a folder that is named after its content, and what it is called.

    Args:
        file: as a client sends it, which may name any file.
        folder: where uploads and examples are, all that anybody may have read.
    """
    if not (file and file.get("path")):
        raise gr.Error("there is no picture: upload one, or choose an example", print_exception=False)
    path = str(file["path"])
    if "\0" in path or not Path(path).resolve().is_relative_to(Path(folder).resolve()):
        raise gr.Error("this picture was not uploaded here: upload it", print_exception=False)
    return path, str(file.get("orig_name") or Path(path).name)


@contextmanager
def one_sentence(path: str, name: str) -> Iterator[None]:
    """Says what is wrong with what a person gave, and calls the picture as they do."""
    try:
        yield
    except ValueError as error:
        raise gr.Error(escape(str(error).replace(path, name), quote=False), print_exception=False) from error
    except (MemoryError, torch.cuda.OutOfMemoryError) as error:
        raise gr.Error(f"there is not enough memory for {escape(name, quote=False)}: give a smaller picture") from error
