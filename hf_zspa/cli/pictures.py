"""`hf-zspa demo` and `hf-zspa visualize`."""

from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from .settings import Centre, CoreRatio, KeepRatio, Method, Pooling, RelevanceWeight, chosen
from .shared import Json, Trust, as_typed, console, flag, quiet, say, say_json

if TYPE_CHECKING:
    from ..visualize.demo import Demonstration
    from ..visualize.selection import Selection

app = typer.Typer()
ImageFile = Annotated[Path | None, typer.Option("--image", help="A picture; by default one of the shipped scenes.")]


@app.command("demo")
def demo_command(
    image: ImageFile = None,
    prompt: Annotated[str | None, typer.Option(help="A question; by default the shipped scene's.")] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="The picture to write.")] = Path("zspa-demo.png"),
    keep_ratio: KeepRatio = None,
    method: Method = None,
    core_ratio: CoreRatio = None,
    relevance_weight: RelevanceWeight = None,
    pooling: Pooling = None,
    centre: Centre = None,
    as_json: Json = False,
) -> None:
    """Answers a question about an image with and without pruning, on the small model inside the package."""
    from ..visualize.demo import demo

    settings = chosen(locals())
    quiet()
    with as_typed(**settings):
        done = demo(output, image, prompt, **settings)
    if as_json:
        answers = {"unpruned": asdict(done.unpruned), "pruned": asdict(done.pruned)}
        say_json(
            {"question": done.question, "right_answer": done.right_answer, **answers, "picture": str(done.picture)}
            | _selected(done.selection)
        )
        return
    right = f" (right answer: {done.right_answer})" if done.right_answer else ""
    console.print(done.question + right, style="bold", markup=False, highlight=False)
    console.print(_answers(done))
    if done.selection.note:
        say(done.selection.note)
    say(f"picture: {done.picture}")


@app.command("visualize")
def visualize_command(
    checkpoint: Annotated[str, typer.Argument(help="A zspa checkpoint, or a base to try: a folder or a Hub id.")],
    image: Annotated[Path, typer.Option("--image", help="A picture.")],
    prompt: Annotated[str, typer.Option(help="The question about it.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The picture to write.")],
    compare: Annotated[bool, flag("--compare", help="Diversity alone, relevance alone, and balance.")] = False,
    keep_ratio: KeepRatio = None,
    method: Method = None,
    core_ratio: CoreRatio = None,
    relevance_weight: RelevanceWeight = None,
    pooling: Pooling = None,
    centre: Centre = None,
    as_json: Json = False,
    trust_remote_code: Trust = False,
) -> None:
    """Draws the relevance heat map and the kept tokens over an image."""
    from ..visualize.checkpoint import visualize_checkpoint

    settings = chosen(locals())
    quiet()
    status = nullcontext() if as_json else console.status("choosing visual tokens")
    with as_typed(**settings), status:
        selection = visualize_checkpoint(
            checkpoint, image, prompt, output, compare=compare, trust_remote_code=trust_remote_code, **settings
        )
    if as_json:
        say_json({"checkpoint": checkpoint, "question": prompt, "picture": str(output)} | _selected(selection))
        return
    say(f"kept {len(selection.kept)} of {len(selection.scores)} visual tokens, see {output}")
    if selection.note:
        say(selection.note)


def _selected(selection: "Selection") -> dict[str, Any]:
    """A selection for a program."""
    parts = {"core": selection.core.tolist(), "diversity": selection.diversity.tolist()}
    counts = {"visual_tokens": len(selection.scores), "kept_tokens": len(selection.kept)}
    return counts | {"method": selection.method} | parts


def _answers(done: "Demonstration") -> Table:
    table = Table()
    for heading in ("", "visual tokens", "kept", "first token", "total", "answer"):
        table.add_column(heading, justify="left" if heading in ("", "answer") else "right")
    everything = done.unpruned.tokens
    for name, said in (("all tokens", done.unpruned), ("pruned", done.pruned)):
        times = (f"{1000 * seconds:.1f} ms" for seconds in (said.first_token, said.total))
        table.add_row(name, str(everything), f"{said.tokens} ({said.tokens / everything:.0%})", *times, said.text)
    return table
