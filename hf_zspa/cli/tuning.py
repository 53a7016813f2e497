"""`hf-zspa tune`."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from .shared import Json, Trust, count, flag, names, numbers, print_tables, quiet, ratio, say, say_json

app = typer.Typer()


@app.command("tune")
def tune_command(
    checkpoint: Annotated[str, typer.Argument(help="A folder, a Hub id, or embedded, embedded-qwen, embedded-photo.")],
    questions: Annotated[
        Path, typer.Option(help='JSON Lines such as {"image": "a.png", "prompt": "what?"}; no answers are needed.')
    ],
    agreement: Annotated[float, ratio(help="Share of answers that are to stay as they are, (0, 1).")] = 0.98,
    keep_ratio: Annotated[
        str | None, typer.Option(help="Those to try, such as 0.1,0.25; by default six from 0.05 to 0.75.")
    ] = None,
    methods: Annotated[str | None, typer.Option(help="Some of zspa, weighted, dpp, mmtok; by default all.")] = None,
    apply: Annotated[bool, flag("--apply", help="Write what is chosen into the checkpoint's folder.")] = False,
    new_tokens: Annotated[int, count(help="Tokens of an answer that are looked at.")] = 32,
    batch_size: Annotated[int, count(help="Candidates at once.")] = 8,
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")] = "auto",
    device: Annotated[str | None, typer.Option(help="Such as cuda:0; by default the GPU if there is one.")] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the results; a run goes on there.")] = Path(
        "zspa-tune"
    ),
    as_json: Json = False,
    trust_remote_code: Trust = False,
) -> None:
    """Finds the smallest keep ratio, and the method, that leaves a checkpoint's answers to your prompts as they are.

    Nothing is labelled: the answers without pruning are what pruned ones are compared with. Methods are chosen on half
    of the pictures and judged on the other. The status is 1 where no keep ratio reaches the agreement.
    """
    from ..tuning.command import Request, run

    quiet()
    given, asked = numbers("--keep-ratio", keep_ratio), names(methods)
    request = Request(
        checkpoint,
        questions,
        agreement,
        **({} if given is None else {"keep_ratios": tuple(given)}),
        methods=None if asked is None else tuple(asked),
        apply=apply,
        output=output,
        new_tokens=new_tokens,
        batch_size=batch_size,
        dtype=dtype,
        device=device,
        trust_remote_code=trust_remote_code,
    )
    notes: list[str] = []
    tuning = run(request, Console(file=sys.stderr), notes.append)
    from ..tuning.report import summary, verdict

    if as_json:
        say_json({"checkpoint": checkpoint} | tuning.as_json())
    else:
        print_tables(summary(tuning))
        say(f"\n{verdict(tuning)}")
        for note in notes:
            say(note)
        say(f"every candidate is in {output / 'results.md'}")
    if tuning.chosen is None:
        raise typer.Exit(1)
