"""The page as a server, on this machine or as a Hugging Face Space."""

import threading
from collections.abc import Callable

import gradio as gr

from .answering import Answering
from .markup import STYLE
from .page import build

LARGEST = "20mb"  # of an uploaded picture


def theme() -> gr.Theme:
    """Gradio's, in the fonts of whoever looks at it and with more contrast."""
    fonts = {"font": ["system-ui", "sans-serif"], "font_mono": ["ui-monospace", "monospace"]}
    return gr.themes.Default(primary_hue="indigo", **fonts).set(
        body_text_color_subdued="*neutral_500", block_info_text_color="*neutral_500"
    )


def serve(page: gr.Blocks, host: str | None = None, port: int | None = None, share: bool = False) -> str:
    """Starts the server of a page, and returns where it is; `page.close()` stops it.

    Raises:
        ValueError: the port is taken, or this machine is not `host`.
    """
    try:
        page.launch(
            server_name=host, server_port=port, share=share, quiet=True, prevent_thread_lock=True, inbrowser=False,
            max_file_size=LARGEST, theme=theme(), css=STYLE, footer_links=[],
            ssr_mode=False, run_history=False, pwa=False,
        )  # fmt: skip
    except (OSError, OverflowError) as error:  # a port above 65535
        place = f"{host or 'this machine'}, port {port or 'from 7860 on'}"
        raise ValueError(
            f"{place}, cannot be listened at: it is taken, or not this machine's; choose with --port or --host"
        ) from error
    return page.share_url or page.local_url or ""


def launch(
    checkpoint: str = "embedded",
    *,
    trust_remote_code: bool = False,
    host: str | None = None,
    port: int | None = None,
    share: bool = False,
    device: str | None = None,
    dtype: str = "auto",
    say: Callable[[str], object] = print,
) -> None:
    """Serves the page of a checkpoint until the process is stopped.

    Args:
        checkpoint: a zspa checkpoint: a folder, a Hub id or a name of one inside this package.
        trust_remote_code: run its code whatever it is; else only if it is that of this package.
        host: the address to listen at; None is Gradio's, this machine alone except in a Space.
        port: None is the first free one from 7860 on.
        share: have Gradio make it public for some days, through servers of its own.
        device: such as "cuda:0"; None is the GPU where there is one.
        dtype: "auto", as stored, "float32", "bfloat16" or "float16".
        say: is given the address, as a line.

    Raises:
        ValueError: the checkpoint cannot be loaded, or the server not be started.
    """
    answering = Answering(checkpoint, trust_remote_code, device=device, dtype=dtype)
    page = build(answering)
    say(f"{answering.name} answers at {serve(page, host, port, share)} until Ctrl-C")
    try:
        threading.Event().wait()
    finally:
        page.close(verbose=False)
