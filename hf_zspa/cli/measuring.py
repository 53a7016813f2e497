"""`hf-zspa eval` and `hf-zspa bench`."""

import sys
from collections.abc import Sized
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from ..remote_code.zspa_checks import CHECKS
from ..version import install_command
from .settings import Centre
from .shared import Json, Trust, as_typed, count, names, numbers, print_tables, quiet, ratio, say, say_json

app = typer.Typer()


@app.command("eval")
def eval_command(
    checkpoint: Annotated[str, typer.Argument(help="A folder, a Hub id, or embedded, embedded-qwen, embedded-photo.")],
    table: Annotated[
        str | None,
        typer.Option(help="1, 2 or 4: the paper's table of this number; tokens: 192, 128, 64 and 32 of 576."),
    ] = None,
    tasks: Annotated[str | None, typer.Option(help="lmms-eval's names, such as pope,gqa.")] = None,
    methods: Annotated[
        str | None,
        typer.Option(
            help="Some of original, relevance, divprune, zspa, weighted, dpp, conditional_dpp, mmtok, par, tome, "
            "resized, random."
        ),
    ] = None,
    keep_ratio: Annotated[
        str | None, typer.Option(help="One or several, such as 0.1,0.25; by default its own.")
    ] = None,
    core_ratio: Annotated[str | None, typer.Option(help="One or several; by default the checkpoint's own.")] = None,
    relevance_weight: Annotated[
        str | None, typer.Option(help="One or several, such as 0.5,0.75; by default the checkpoint's own.")
    ] = None,
    pooling: Annotated[str | None, typer.Option(help="mean, max or none; by default the checkpoint's own.")] = None,
    centre: Centre = None,
    limit: Annotated[int | None, count(help="Samples per task; by default all.")] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder of the results; a sweep goes on there.")
    ] = Path("zspa-eval"),
    data: Annotated[Path | None, typer.Option(help="Folder of local benchmark data; by default the Hub.")] = None,
    batch_size: Annotated[int, count()] = 16,
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")] = "auto",
    device: Annotated[str | None, typer.Option(help="Such as cuda:0; by default the GPU if there is one.")] = None,
    device_map: Annotated[str | None, typer.Option(help="auto spreads the model over all GPUs.")] = None,
    attention: Annotated[str | None, typer.Option(help="transformers' name, such as sdpa.")] = None,
    max_pixels: Annotated[int | None, count(help="Largest area of an image (Qwen2.5-VL).")] = None,
    seed: Annotated[int | None, typer.Option(help="What the method random draws from; by default 0.")] = None,
    on_error: Annotated[str, typer.Option(help="raise, or count a failing sample as wrong.")] = "raise",
    as_json: Json = False,
    trust_remote_code: Trust = False,
) -> None:
    """Measures a checkpoint on the paper's benchmarks, or the embedded one on its own, method against method."""
    if table not in (None, "1", "2", "4", "tokens"):
        bench = " (Table 3 is about time: hf-zspa bench)" if table == "3" else ""
        raise ValueError(f"--table is {table}, but must be 1, 2, 4 or tokens{bench}")
    from ..evaluation.asked import Request, planned

    quiet()
    model = {
        "batch_size": batch_size,
        "dtype": dtype,
        "device": device,
        "device_map": device_map,
        "attn_implementation": attention,
        "max_pixels": max_pixels,
        "on_error": on_error,
        "trust_remote_code": trust_remote_code,
    }
    settings = {
        "core_ratio": numbers("--core-ratio", core_ratio),
        "relevance_weight": numbers("--relevance-weight", relevance_weight),
        **{
            name: [value]
            for name, value in (("pooling", pooling), ("centre", centre), ("seed", seed))
            if value is not None
        },
    }
    request = Request(
        checkpoint,
        output,
        table=int(table) if table and table.isdigit() else table,
        tasks=names(tasks),
        methods=names(methods),
        keep_ratios=numbers("--keep-ratio", keep_ratio),
        settings={name: values for name, values in settings.items() if values is not None},
        limit=limit,
        data=data,
        model=model,
    )
    planned(request)  # before what takes seconds to import
    _check_evaluation()
    from ..evaluation.command import evaluate
    from ..evaluation.requests import SampleError
    from ..evaluation.scoring import ScoreError

    try:
        results = evaluate(request, Console(file=sys.stderr))
    except (SampleError, ScoreError) as error:
        raise ValueError(str(error)) from error
    if as_json:
        say_json(results)
        return
    report = output / f"{request.stem}.md"
    print_tables(report.read_text(encoding="utf-8").split("\n## Paired differences")[0])
    say(f"\n{_count(results['rows'], 'row')} in {report.with_suffix('.json')}, see {report}")


@app.command("bench")
def bench_command(
    checkpoint: Annotated[
        str | None, typer.Argument(help="A zspa checkpoint or a base: a folder, a Hub id, or a name as in eval.")
    ] = None,
    shape: Annotated[
        str | None,
        typer.Option(
            help="Random weights instead: llava-1.5-7b, llava-next-7b, llava-onevision-7b, qwen2-vl-7b, "
            "qwen2.5-vl-7b, qwen3-vl-8b, qwen3-vl-30b-a3b, qwen3.5-9b, qwen3.5-35b-a3b, glm-4.1v-9b, "
            "glm-4.5v, kimi-k2.5, gemma-3-4b, gemma-4-e4b, paligemma-3b, mistral-small-3.1-24b, internvl3-8b, "
            "aya-vision-8b, command-a-vision, smolvlm2-2.2b, smolvlm-2.2b or lfm2-vl-1.6b; with -small, two "
            "layers and eight experts at most."
        ),
    ] = None,
    batch: Annotated[int, count(help="With --shape: prompts at once.")] = 1,
    images: Annotated[int, count(help="With --shape: images in a prompt.")] = 1,
    frames: Annotated[
        int, typer.Option(min=0, help="With qwen2-vl-7b or qwen2.5-vl-7b: a video of so many frames.")
    ] = 0,
    patches: Annotated[
        str, typer.Option(help="With a Qwen, GLM or Kimi shape: rows and columns of patches; four are a token.")
    ] = "72x72",
    methods: Annotated[
        str | None,
        typer.Option(
            help="Some of original, zspa, relevance, divprune, divprune (published), limit, which are the default, "
            "weighted, dpp, conditional_dpp, mmtok, par, tome, resized, random."
        ),
    ] = None,
    keep_ratio: Annotated[float, ratio(help="Share of tokens kept, (0, 1].")] = 0.1,
    core_ratio: Annotated[float, ratio(help="Share of those chosen by relevance, [0, 1].")] = 0.2,
    new_tokens: Annotated[int, typer.Option(min=2, help="Tokens of every answer.")] = 16,
    time_allowed: Annotated[
        float, typer.Option("--seconds", help="About how long to go on; every question is asked once at least.")
    ] = 60,
    pairs: Annotated[
        Path | None,
        typer.Option(help='JSON Lines such as {"image": "a.png", "question": "what?"}; by default shipped scenes.'),
    ] = None,
    task: Annotated[str | None, typer.Option(help="The questions of a task of lmms-eval, such as mmmu_val.")] = None,
    data: Annotated[Path | None, typer.Option(help="With --task: folder of local benchmark data.")] = None,
    limit: Annotated[int | None, count(help="Image-question pairs at most.")] = None,
    table: Annotated[int | None, typer.Option(help="3: the paper's table of this number, its figures beside.")] = None,
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")] = "auto",
    device: Annotated[str | None, typer.Option(help="Such as cuda:0; by default the GPU if there is one.")] = None,
    attention: Annotated[str | None, typer.Option(help="transformers' name, such as sdpa.")] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder of the results; those in it are replaced.")
    ] = Path("zspa-bench"),
    as_json: Json = False,
    trust_remote_code: Trust = False,
) -> None:
    """Times answers and measures their memory, method against method, taking turns in one run.

    Original: all visual tokens. Zspa, relevance, divprune: this package, with core ratio as given, 1 and 0. Divprune
    (published): the cost of the published algorithm. Limit: the stock model, given what was selected already; no
    selection can be faster.

    Times are medians in milliseconds. Ratios are those of times in the same round, with the interval that holds
    their median in 95 of 100 cases if rounds are independent. The cache has the keys and values of prompt and answer;
    peak tensors are what an answer holds at most beside the weights.
    """
    from ..checkpoints.resolve import checkpoint_folder
    from ..models.given import check_dtype, read_pairs
    from ..output import check_output

    if table not in (None, 3):
        raise ValueError(f"--table is {table}, but must be 3 (the others are about answers: hf-zspa eval)")
    ratios = {"keep_ratio": keep_ratio, "core_ratio": core_ratio}
    with as_typed(**ratios):
        for name, value in ratios.items():
            CHECKS[name](name, value)
    check_dtype(dtype, "--dtype")
    check_output(output)
    if not shape:
        read_pairs(pairs)
    quiet()
    if checkpoint:
        checkpoint_folder(checkpoint, weights=False)
    if task:
        _check_evaluation()
    from ..bench.command import Request, bench  # which takes seconds
    from ..bench.measure import METHODS, Settings
    from ..bench.report import markdown, paper_table_3
    from ..bench.shapes import Prompt

    request = Request(
        Settings(keep_ratio, core_ratio, new_tokens=new_tokens),
        checkpoint,
        shape,
        Prompt(batch, images, _grid(patches), frames),
        METHODS if methods is None else tuple(names(methods) or ()),
        pairs=pairs,
        task=task,
        data=data,
        limit=limit,
        table=table,
        dtype=dtype,
        device=device,
        attention=attention,
        output=output,
        trust_remote_code=trust_remote_code,
        time_allowed=time_allowed,
    )
    results = bench(request, Console(stderr=True))
    if as_json:
        say_json(results)
        return
    print_tables(paper_table_3(results) if table else markdown(results))
    say(f"\n{_count(results['rows'], 'row')} in {output / 'results.json'}, see {output / 'results.md'}")


def _count(things: Sized, name: str) -> str:
    return f"{len(things)} {name}{'s' * (len(things) != 1)}"


def _grid(text: str) -> tuple[int, int]:
    rows, _, columns = text.partition("x")
    if not (
        rows.isdigit() and columns.isdigit() and int(rows) * int(columns) and int(rows) % 2 == int(columns) % 2 == 0
    ):
        raise ValueError(f"--patches is {text!r}, but must be two even numbers, such as 72x72")
    return int(rows), int(columns)


def _check_evaluation() -> None:
    """Raises `ValueError` where lmms-eval cannot be imported, and says what is missing."""
    try:
        from ..evaluation import command  # noqa: F401
    except ImportError as error:
        if error.name and error.name.split(".")[0] == "hf_zspa":
            raise
        raise ValueError(f"evaluation needs {error.name}: {install_command(extra='eval')}") from error
    except RuntimeError as error:  # operators of a torchvision made for another torch
        if "torchvision" not in str(error):
            raise
        from ..loading import torchvision_to_install

        raise ValueError(f"torchvision and torch do not fit each other: {torchvision_to_install()}") from error
