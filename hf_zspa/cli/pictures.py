"""`hf-zspa demo` and `hf-zspa visualize`."""

from pathlib import Path
from typing import Annotated

import typer

from .shared import Trust, console, quiet, say

app = typer.Typer()
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
    from ..visualize.demo import demo

    quiet()
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
    trust_remote_code: Trust = False,
) -> None:
    """Draws the relevance heat map and the kept tokens over an image."""
    from ..visualize.checkpoint import visualize_checkpoint

    quiet()
    with console.status("choosing visual tokens"):
        selection = visualize_checkpoint(
            checkpoint,
            image,
            prompt,
            output,
            compare=compare,
            keep_ratio=keep_ratio,
            core_ratio=core_ratio,
            trust_remote_code=trust_remote_code,
        )
    say(f"kept {len(selection.kept)} of {len(selection.scores)} visual tokens, see {output}")
