"""`hf-zspa bench`: what is measured, and where it is written."""

import json
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from ..evaluation.fitting import check_fit
from ..evaluation.resizing import Resizer, scales_by_area
from ..loading import check_placeholders, load_zspa, question_inputs, usable_device
from ..models.given import check_dtype, open_image, read_pairs
from ..output import check_output, output_folder, replace_files
from ..pruners import registry
from ..remote_code.zspa_checks import check_ratio
from . import shapes
from .measure import EVERY_METHOD, METHODS, InterleavedBenchmark, Settings, takes_embeddings
from .report import markdown, paper_table_3, plot

ROUNDS = 3  # answers of each method at least, whatever the time allowed


Question = tuple[dict[str, Any], dict[str, Any] | None]  # its inputs, and those with a smaller image


@dataclass(frozen=True)
class Request:
    """What `hf-zspa bench` was asked for.

    Attributes:
        checkpoint: a zspa checkpoint or a base, a folder or a Hub id; None where `shape` says what to build.
        prompt: what a model with random weights is asked.
        pairs: JSON Lines with `image`, a path relative to the file, and `question`; None for the shipped examples.
        task: in place of pairs, the questions of one of lmms-eval's tasks.
        data: folder of local benchmark data for `task`.
        limit: questions at most.
        table: 3 to write the paper's table of this number as well.
        trust_remote_code: run the checkpoint's code whatever it is; else only if it is that of this package.
        time_allowed: seconds; every question is answered once, and again until these have passed.
    """

    settings: Settings
    checkpoint: str | None = None
    shape: str | None = None
    prompt: shapes.Prompt = field(default_factory=shapes.Prompt)
    methods: tuple[str, ...] = METHODS
    pairs: Path | None = None
    task: str | None = None
    data: Path | None = None
    limit: int | None = None
    table: int | None = None
    dtype: str = "auto"
    device: str | None = None
    attention: str | None = None
    output: Path | None = None
    trust_remote_code: bool = False
    time_allowed: float = 60.0


def bench(request: Request, console: Console) -> dict[str, Any]:
    """Measures, and writes `results.json`, `results.md` and, with matplotlib, `results.png` into the output folder, in
    place of those that are there; with `table` also `table-3.md`.

    Raises:
        ValueError: neither or both of checkpoint and shape, an unknown shape or method, an option that has no meaning
            beside the others, pairs that cannot be read, a device that there is not, or an output folder that cannot be
            made.
    """
    _check(request)
    device = usable_device(request.device, "--device")
    model, questions = _model_and_questions(request, device, console)
    request = replace(request, methods=_possible(request.methods, model, console))
    results = _measure(request, model, questions, console)
    if request.output:
        folder = output_folder(request.output)
        files = {"results.json": json.dumps(results, indent=1), "results.md": markdown(results)}
        if request.table:
            files["table-3.md"] = paper_table_3(results)
        else:
            (folder / "table-3.md").unlink(missing_ok=True)  # of an earlier run
        replace_files({folder / name: f"{text}\n".encode() for name, text in files.items()})
        plot(results, folder / "results.png")
    return results


def _possible(methods: tuple[str, ...], model: Any, console: Console) -> tuple[str, ...]:
    """The methods without "limit" where the model has none; raises `ValueError` where that, or another that the model
    cannot be measured under, was asked for by name."""
    for method in methods:
        if method in registry.METHODS and method != "resized":  # which is looked at with a processor
            check_fit(method, model, None)
    if "limit" not in methods or takes_embeddings(model):
        return methods
    reason = f"generate of {model.config.model_type} cannot go on from embeddings alone"
    if methods != METHODS:
        raise ValueError(f"--methods has limit, but {reason}: leave it out")
    console.print(f"limit is left out: {reason}")
    return tuple(method for method in methods if method != "limit")


def _measure(request: Request, model: Any, questions: Iterator[Question], console: Console) -> dict[str, Any]:
    columns = (SpinnerColumn(), TextColumn("{task.completed} answers"), TimeElapsedColumn())
    say = (lambda line: None) if console.is_terminal else console.print
    start = time.monotonic()
    end = start + request.time_allowed
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=None)
        benchmark = InterleavedBenchmark(
            model, request.settings, request.methods, advance=lambda: progress.advance(task)
        )
        again: list[tuple[int, Question]] = []  # those that are asked again are few, or there is no time for them
        for number, (inputs, resized) in enumerate(questions):
            benchmark.run(inputs, number, resized)
            say(f"question {number + 1} is answered by every method")
            if number == 0:
                took = time.monotonic() - start
                console.print(
                    f"the first of {ROUNDS} rounds or more took {took:.1f} s; fewer --methods take less, as does "
                    "OMP_NUM_THREADS=1 on a machine that others use"
                )
            if time.monotonic() < end or benchmark.rounds < ROUNDS:
                again.append((number, (inputs, resized)))
        while again and (benchmark.rounds < ROUNDS or time.monotonic() < end):
            number, (inputs, resized) = again[benchmark.rounds % len(again)]
            benchmark.run(inputs, number, resized)
            say(f"question {number + 1} is answered again, {benchmark.rounds} rounds so far")
    if request.shape:
        return benchmark.results(request.shape, "random", asdict(request.prompt))
    asked = request.task or str(request.pairs or "shipped examples")
    return benchmark.results(str(request.checkpoint), "checkpoint", asked)


def _check(request: Request) -> None:
    if (request.checkpoint is None) == (request.shape is None):
        both = "not both: --shape has random weights" if request.shape else f"one of {', '.join(shapes.published())}"
        raise ValueError(f"give a checkpoint or --shape, {both}")
    if not 0 < request.time_allowed < math.inf:
        raise ValueError(f"--seconds is {request.time_allowed:g}, but must be a number above 0")
    check_dtype(request.dtype, "--dtype")
    if request.output:
        check_output(request.output)
    _check_questions(request)
    unknown = [method for method in request.methods if method not in EVERY_METHOD]
    if unknown or not request.methods:
        raise ValueError(f"--methods has {', '.join(unknown) or 'none'}, but must be of {', '.join(EVERY_METHOD)}")
    if len(set(request.methods)) < len(request.methods):
        raise ValueError(f"--methods is {','.join(request.methods)}, but must name each method once")
    check_ratio("--keep-ratio", request.settings.keep_ratio, zero_allowed=False)
    check_ratio("--core-ratio", request.settings.core_ratio, zero_allowed=True)


def _check_questions(request: Request) -> None:
    """Raises `ValueError` where one option says what is asked and another has no part in it."""
    if not request.shape and request.prompt != shapes.Prompt():
        raise ValueError("--batch, --images, --frames and --patches are for --shape: a checkpoint has real questions")
    if request.shape and (request.pairs or request.task or request.limit or request.data):
        raise ValueError(
            "--shape has random weights and a prompt of its own: leave out --pairs, --task, --data and --limit"
        )
    if request.pairs and request.task:
        raise ValueError("give --pairs or --task, not both")
    if request.task and "resized" in request.methods:
        raise ValueError("--methods has resized, which needs the pictures of --pairs: leave it or --task out")
    if request.data and not request.task:
        raise ValueError("--data has the questions of --task: name that as well")
    if request.shape:
        shapes.check_prompt(request.shape, request.prompt)


def _model_and_questions(request: Request, device: torch.device, console: Console) -> tuple[Any, Iterator[Question]]:
    """The model, and each question as a processor makes it, with what it makes of a smaller image where "resized" is
    measured so, else None."""
    resizes = "resized" in request.methods
    if request.shape:
        with console.status(f"building {request.shape} with random weights"):
            usual = "bfloat16" if device.type == "cuda" else "float32"
            dtype = getattr(torch, usual if request.dtype == "auto" else request.dtype)
            with _said_of_attention(request.attention):
                model = shapes.build(request.shape, device, dtype, request.attention)
        smaller = shapes.resized(request.shape, model, request.prompt, request.settings.keep_ratio) if resizes else None
        return model, iter([(shapes.inputs(request.shape, model, request.prompt), smaller)])
    checkpoint = str(request.checkpoint)
    if request.task:
        from ..evaluation.prompts import task_prompts

        log = (request.output or Path()) / "lmms-eval.log"
        options = {
            "device": str(device), "dtype": request.dtype, "attn_implementation": request.attention,
            "trust_remote_code": request.trust_remote_code,
        }  # fmt: skip
        with _said_of_attention(request.attention):
            model, prompts = task_prompts(checkpoint, request.task, request.data, request.limit, log, **options)
            return model, ((inputs, None) for inputs in prompts)
    pairs = read_pairs(request.pairs, request.limit)
    for image, _ in pairs:  # one that cannot be read is named before anything is measured
        open_image(image)
    model, processor = load_zspa(checkpoint, request.trust_remote_code, device=device, dtype=request.dtype)
    for _, text in pairs:
        check_placeholders(processor, text)
    if request.attention:
        with _said_of_attention(request.attention):
            model.set_attn_implementation(request.attention)
    resizer = None
    if resizes:
        check_fit("resized", model, processor)
        if scales_by_area(processor):
            resizer = Resizer(processor, model.config, request.settings.keep_ratio)

    def question(image: Image.Image, text: str) -> Question:
        inputs = question_inputs(model, processor, image, text)
        if resizer is None:
            return dict(inputs), None
        (smaller,) = resizer([image], inputs)
        return dict(inputs), dict(question_inputs(model, resizer.processor, smaller, text))

    return model, (question(open_image(image), text) for image, text in pairs)


@contextmanager
def _said_of_attention(name: str | None) -> Iterator[None]:
    """Names the option where transformers does not know, or cannot use, an implementation of attention."""
    try:
        yield
    except (ValueError, ImportError) as error:
        if name is None or not any(word in str(error) for word in ("attn_implementation", "FlashAttention", name)):
            raise
        raise ValueError(f"--attention is {name!r}, which transformers cannot use here: {error}") from error
