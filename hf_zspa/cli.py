"""The command line: `hf-zspa`, also `python -m hf_zspa`."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markdown import Markdown
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from .inspection import CheckpointInfo

app = typer.Typer(
    help="Vision-language checkpoints that prune their own visual tokens, chosen for the question.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
console = Console()


@app.callback()
def _group() -> None:
    """Keeps `hf-zspa COMMAND` the form however many commands there are."""


ImageFile = Annotated[Path | None, typer.Option("--image", help="A picture; by default one of the shipped scenes.")]
KeepRatio = Annotated[float | None, typer.Option(help="Share of tokens kept, (0, 1]; by default the checkpoint's.")]
CoreRatio = Annotated[float | None, typer.Option(help="Share of those chosen by relevance; default the checkpoint's.")]


@app.command("demo")
def demo_command(
    image: ImageFile = None,
    prompt: Annotated[str | None, typer.Option(help="A question; by default the shipped scene's.")] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="The picture to write.")] = Path("zspa-demo.png"),
    keep_ratio: KeepRatio = None,
    core_ratio: CoreRatio = None,
) -> None:
    """Answers a question about an image with and without pruning, on the small model inside the package."""
    from .demo import demo

    _quiet()
    demo(output, image, prompt, keep_ratio=keep_ratio, core_ratio=core_ratio, console=console)


@app.command("visualize")
def visualize_command(
    checkpoint: Annotated[str, typer.Argument(help="A zspa checkpoint: a folder or a Hub id.")],
    image: Annotated[Path, typer.Option("--image", help="A picture.")],
    prompt: Annotated[str, typer.Option(help="The question about it.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The picture to write.")],
    compare: Annotated[bool, typer.Option("--compare", help="Diversity alone, relevance alone, and balance.")] = False,
    keep_ratio: KeepRatio = None,
    core_ratio: CoreRatio = None,
) -> None:
    """Draws the relevance heat map and the kept tokens over an image."""
    from .visualize import visualize

    _quiet()
    with console.status("choosing visual tokens"):
        selection = visualize(
            checkpoint, image, prompt, output, compare=compare, keep_ratio=keep_ratio, core_ratio=core_ratio
        )
    console.print(
        f"kept {len(selection.kept)} of {len(selection.scores)} visual tokens, see {output}",
        highlight=False,
        soft_wrap=True,
    )


@app.command("convert")
def convert_command(
    base: Annotated[str, typer.Argument(help="A stock checkpoint: a folder or a Hub id.")],
    out: Annotated[Path, typer.Argument(help="The folder to make.")],
    keep_ratio: Annotated[float | None, typer.Option(help="Share of each image's tokens kept, (0, 1]; 0.1.")] = None,
    core_ratio: Annotated[float | None, typer.Option(help="Share of those chosen by relevance, [0, 1]; 0.2.")] = None,
    pooling: Annotated[str | None, typer.Option(help="How prompt tokens are aggregated: mean, max or none.")] = None,
    prompt_scope: Annotated[str | None, typer.Option(help="query, the last user turn, or text, all of it.")] = None,
    position_ids: Annotated[str | None, typer.Option(help="preserve, or compact (LLaVA families only).")] = None,
    preset: Annotated[Path | None, typer.Option(help="A JSON file of fields; options given here go before it.")] = None,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit of a Hub id.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace OUT if it is not empty.")] = False,
    link: Annotated[bool, typer.Option("--link", help="Hard link the weights: OUT and BASE share them.")] = False,
) -> None:
    """Makes a checkpoint that prunes its own visual tokens; the weights stay as they are."""
    from .checkpoint import convert_checkpoint, read_preset

    _quiet()
    options = {
        "zspa_keep_ratio": keep_ratio,
        "zspa_core_ratio": core_ratio,
        "zspa_pooling": pooling,
        "zspa_prompt_scope": prompt_scope,
        "zspa_position_ids": position_ids,
    }
    fields = read_preset(preset) if preset else {}
    fields |= {name: value for name, value in options.items() if value is not None}
    with _byte_progress("weights") as progress:
        target = convert_checkpoint(base, out, force=force, link=link, revision=revision, progress=progress, **fields)
    console.print(f"wrote {target}: load it with trust_remote_code=True", highlight=False, soft_wrap=True)


@app.command("inspect")
def inspect_command(
    checkpoint: Annotated[str, typer.Argument(help="A checkpoint: a folder or a Hub id.")],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of tables.")] = False,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit of a Hub id.")] = None,
) -> None:
    """Shows what a checkpoint will do: ratios, prompt scope, turn markers, files with sizes and digests."""
    from .inspection import inspect_checkpoint

    _quiet()
    with _byte_progress("digests") as progress:
        info = inspect_checkpoint(checkpoint, revision=revision, progress=progress)
    if as_json:
        print(json.dumps(asdict(info), default=str, indent=2))
        return
    console.print(_facts_table(info))
    for file in info.files:
        print(f"{file.sha256} {file.size:>14,} {file.name}")


def _facts_table(info: "CheckpointInfo") -> Table:
    fields = info.fields
    facts = {
        "checkpoint": str(info.path),
        "family": info.model_type,
        "converted": "yes" if info.converted else "no, these are the fields that hf-zspa convert would give it",
        "keep ratio": str(fields["zspa_keep_ratio"]),
        "core ratio": str(fields["zspa_core_ratio"]),
        "pooling": fields["zspa_pooling"],
        "prompt scope": fields["zspa_prompt_scope"],
        "position ids": fields["zspa_position_ids"],
        "a user turn opens with": _markers(info.turn_starts, fields["zspa_query_start_ids"]),
        "a user turn closes with": _markers(info.turn_ends, fields["zspa_query_end_ids"]),
        "special tokens": str(len(fields["zspa_special_token_ids"] or [])),
    }
    table = Table(show_header=False, box=None)
    for name, value in facts.items():
        table.add_row(name, Text(value))
    return table


def _markers(texts: list[str], sequences: list[list[int]] | None) -> str:
    lines = [f"{text!r} {ids}" for text, ids in zip(texts, sequences or [])]
    return "\n".join(lines) or "nothing known: the scope is all text"


@app.command("eval")
def eval_command(
    checkpoint: Annotated[str, typer.Argument(help="A folder, a Hub id, embedded or embedded-qwen.")],
    table: Annotated[int | None, typer.Option(help="1, 2 or 4: the paper's table of this number.")] = None,
    tasks: Annotated[str | None, typer.Option(help="lmms-eval's names, such as pope,gqa.")] = None,
    methods: Annotated[
        str | None, typer.Option(help="Of original,relevance,divprune,zspa,random,conditional_dpp,mmtok.")
    ] = None,
    keep_ratio: Annotated[
        str | None, typer.Option(help="One or several, such as 0.1,0.25; by default its own.")
    ] = None,
    core_ratio: Annotated[str | None, typer.Option(help="One or several; by default the checkpoint's own.")] = None,
    pooling: Annotated[str | None, typer.Option(help="mean, max or none; by default the checkpoint's own.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Samples per task; by default all.")] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder of the results; a sweep goes on there.")
    ] = Path("zspa-eval"),
    data: Annotated[Path | None, typer.Option(help="Folder of local benchmark data; by default the Hub.")] = None,
    batch_size: Annotated[int, typer.Option(min=1)] = 16,
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")] = "auto",
    device: Annotated[str | None, typer.Option(help="Such as cuda:0; by default the GPU if there is one.")] = None,
    device_map: Annotated[str | None, typer.Option(help="auto spreads the model over all GPUs.")] = None,
    attention: Annotated[str | None, typer.Option(help="transformers' name, such as sdpa.")] = None,
    max_pixels: Annotated[int | None, typer.Option(help="Largest area of an image (Qwen2.5-VL).")] = None,
    seed: Annotated[int, typer.Option(help="What the method random draws from.")] = 0,
    on_error: Annotated[str, typer.Option(help="raise, or count a failing sample as wrong.")] = "raise",
) -> None:
    """Measures a checkpoint on the paper's benchmarks, or the embedded one on its own, method against method."""
    if table not in (None, 1, 2, 4):
        bench = " (Table 3 is about time: hf-zspa bench)" if table == 3 else ""
        raise ValueError(f"--table is {table}, but must be 1, 2 or 4{bench}")
    try:
        from .evaluation.command import Request, evaluate
    except ImportError as error:
        if error.name and error.name.split(".")[0] == "hf_zspa":
            raise
        raise ValueError(f"evaluation needs {error.name}: pip install 'hf-zspa[eval]'") from error
    except RuntimeError as error:  # operators of a torchvision made for another torch
        if "torchvision" not in str(error):
            raise
        raise ValueError(
            "the installed torchvision does not fit the installed torch: install a pair that does"
        ) from error

    _quiet()
    model = {
        "batch_size": batch_size,
        "dtype": dtype,
        "device": device,
        "device_map": device_map,
        "attn_implementation": attention,
        "max_pixels": max_pixels,
        "on_error": on_error,
    }
    request = Request(
        checkpoint,
        output,
        table=table,
        tasks=_names(tasks),
        methods=_names(methods),
        keep_ratios=_numbers("--keep-ratio", keep_ratio),
        core_ratios=_numbers("--core-ratio", core_ratio),
        pooling=pooling,
        seed=seed,
        limit=limit,
        data=data,
        model=model,
    )
    results = evaluate(request, Console(stderr=True))
    report = (output / "results.md").read_text(encoding="utf-8")
    console.print(Markdown(report.split("\n## Paired differences")[0]))
    console.print(
        f"\n{len(results['rows'])} rows in {output / 'results.json'}, see {output / 'results.md'}", soft_wrap=True
    )


@app.command("bench")
def bench_command(
    checkpoint: Annotated[str | None, typer.Argument(help="A zspa checkpoint: a folder, a Hub id, embedded.")] = None,
    shape: Annotated[
        str | None, typer.Option(help="Random weights instead, such as llava-1.5-7b or qwen2.5-vl-7b-small.")
    ] = None,
    keep_ratio: Annotated[float, typer.Option(help="Share of tokens kept, (0, 1].")] = 0.1,
    core_ratio: Annotated[float, typer.Option(help="Share of those chosen by relevance, [0, 1].")] = 0.2,
    new_tokens: Annotated[int, typer.Option(min=2, help="Tokens of every answer.")] = 16,
    time_allowed: Annotated[float, typer.Option("--seconds", help="About how long to go on.")] = 60,
    pairs: Annotated[
        Path | None, typer.Option(help="JSON Lines with image and question; by default shipped scenes.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Image-question pairs at most.")] = None,
    table: Annotated[int | None, typer.Option(help="3: the paper's table of this number, its figures beside.")] = None,
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")] = "auto",
    device: Annotated[str | None, typer.Option(help="Such as cuda:0; by default the GPU if there is one.")] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the results.")] = Path("zspa-bench"),
) -> None:
    """Times answers and measures their memory, method against method and against the limit, in one run."""
    from .bench.command import Request, bench, markdown, paper_table_3
    from .bench.measure import Settings
    from .demo import ZSPA_CHECKPOINT

    if table not in (None, 3):
        raise ValueError(f"--table is {table}, but must be 3 (the others are about answers: hf-zspa eval)")
    _quiet()
    settings = Settings(keep_ratio, core_ratio, new_tokens=new_tokens, time_allowed=time_allowed)
    named = str(ZSPA_CHECKPOINT) if checkpoint == "embedded" else checkpoint
    request = Request(settings, named, shape, pairs, limit, dtype, device, output)
    results = bench(request, Console(stderr=True))
    console.print(Markdown(paper_table_3(results) if table else markdown(results)))
    console.print(f"\n{len(results['rows'])} rows in {output / 'results.json'}", soft_wrap=True)


def _names(text: str | None) -> list[str] | None:
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


def _numbers(option: str, text: str | None) -> list[float] | None:
    try:
        return None if text is None else [float(part) for part in text.split(",")]
    except ValueError as error:
        raise ValueError(f"{option} is {text!r}, but must be numbers separated by commas, such as 0.1,0.2") from error


@contextmanager
def _byte_progress(what: str) -> Iterator[Callable[[int, int], None] | None]:
    """A progress bar on stderr that appears with the first bytes; None where stderr is no terminal."""
    columns = (TextColumn(what), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=Console(stderr=True), transient=True)
    if not bar.console.is_terminal:
        yield None
        return
    task = bar.add_task(what, total=None)

    def show(done: int, total: int) -> None:
        bar.start()
        bar.update(task, completed=done, total=total)

    try:
        yield show
    finally:
        bar.stop()


def _quiet() -> None:
    """Leaves the terminal to the command's own words."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


def main() -> None:
    """Runs the command line. Bad input ends in one line on stderr and exit status 1, wrong usage in 2."""
    try:
        app()
    except (ValueError, OSError) as error:  # the Hub's and transformers' own errors are among these
        line = " ".join(str(error).split()) or type(error).__name__
        print(f"hf-zspa: {line}", file=sys.stderr)
        sys.exit(1)
