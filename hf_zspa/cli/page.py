"""`hf-zspa app`."""

from pathlib import Path
from typing import Annotated

import typer

from ..version import install_command, on_index, requirement
from .shared import Trust, flag, quiet, say

app = typer.Typer()


@app.command("app")
def app_command(
    checkpoint: Annotated[
        str, typer.Argument(help="A zspa checkpoint or a base: a folder, a Hub id or embedded.")
    ] = "embedded",
    host: Annotated[str, typer.Option(help="The address to listen at; 0.0.0.0 lets others in.")] = "127.0.0.1",
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="By default the first free one from 7860 on.")
    ] = None,
    share: Annotated[bool, flag("--share", help="Make it public for some days, through Gradio's servers.")] = False,
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")] = "auto",
    device: Annotated[str | None, typer.Option(help="Such as cuda:0; by default the GPU if there is one.")] = None,
    space: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Serve nothing, but write the page there as a Hugging Face Space."),
    ] = None,
    trust_remote_code: Trust = False,
) -> None:
    """Serves a page: a picture and a question, both answers, and what is kept as sliders move."""
    from ..checkpoints.resolve import checkpoint_folder
    from ..models.given import check_dtype

    quiet()
    check_dtype(dtype, "--dtype")
    try:
        if space is None:
            checkpoint_folder(checkpoint, weights=False)
            from ..app.serve import launch  # which takes seconds
        else:
            from ..app.space import write_space

            target = write_space(checkpoint, space, trust_remote_code, say)
    except ImportError as error:
        if error.name != "gradio":
            raise
        raise ValueError(f"the page needs gradio: {install_command(extra='app')}") from error
    if space is None:
        launch(
            checkpoint, trust_remote_code=trust_remote_code, host=host, port=port, share=share, device=device,
            dtype=dtype, say=say,
        )  # fmt: skip
        return
    say(f"wrote {target}: hf upload ORG/NAME {space} --repo-type space makes a Space of it")
    if " @ " not in requirement() and not on_index():
        say("requirements.txt names a version that no index has yet: put an address there that pip can install from")
