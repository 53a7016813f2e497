"""What `hf-zspa tune` does: reads rows, measures them with a progress bar, writes what was found."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ..checkpoints.base import read_config
from ..checkpoints.resolve import checkpoint_folder
from ..models.given import check_dtype, read_pairs
from ..output import check_output, replace_files
from ..version import install_command
from .apply import apply, check_target
from .candidates import KEEP_RATIOS, SETTINGS, check_keep_ratios, settings_of_methods, with_own
from .choice import check_rows
from .pictures import digests

if TYPE_CHECKING:
    from .tune import Tuning


@dataclass(frozen=True)
class Request:
    """What `hf-zspa tune` was asked for.

    Attributes:
        checkpoint: a zspa checkpoint or a base: a folder or a Hub id.
        questions: JSON Lines with `image`, a path relative to the file, and `prompt`.
        agreement: the share of whole answers that are to stay.
        methods: those to try beside the checkpoint's own; None for all.
        apply: write what is chosen into the checkpoint's folder.
        output: folder of the results; measurements in it are used again.
        trust_remote_code: run the checkpoint's code whatever it is; else only if it is that of this package.
    """

    checkpoint: str
    questions: Path
    agreement: float = 0.98
    keep_ratios: tuple[float, ...] = KEEP_RATIOS
    methods: tuple[str, ...] | None = None
    apply: bool = False
    output: Path = Path("zspa-tune")
    new_tokens: int = 32
    batch_size: int = 8
    dtype: str = "auto"
    device: str | None = None
    trust_remote_code: bool = False


def run(request: Request, console: Console, say: Callable[[str], None]) -> "Tuning":
    """Tunes, and writes `results.json`, `results.md` and, with matplotlib, `results.png` into the output folder.

    Args:
        console: where the progress bar goes.
        say: takes a line for the user.

    Raises:
        ValueError: the request makes no sense, or rows are too few for what it asks.
    """
    check_dtype(request.dtype, "--dtype")
    ratios = check_keep_ratios(request.keep_ratios, "--keep-ratio")
    settings = SETTINGS if request.methods is None else settings_of_methods(request.methods)
    rows = read_pairs(request.questions, asked="prompt")
    target = check_target(request.checkpoint) if request.apply else None
    check_output(request.output)
    checkpoint_folder(request.checkpoint, weights=False)
    check_rows(request.agreement, digests(rows), "--agreement")
    from ..loading import check_placeholders, load_zspa, usable_device  # which take seconds
    from .report import markdown, plot
    from .rows import Rows
    from .tune import conclude

    device = usable_device(request.device, "--device")
    model, processor = load_zspa(request.checkpoint, request.trust_remote_code, device=device, dtype=request.dtype)
    for _, prompt in rows:
        check_placeholders(processor, prompt)
    columns = (TextColumn("rows"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=len(rows))

        def done() -> None:
            bar.advance(task)
            count = int(bar.tasks[task].completed)
            if not console.is_terminal and (count % max(1, len(rows) // 10) == 0 or count == len(rows)):
                console.print(f"{count} of {len(rows)} rows", markup=False, highlight=False)

        tried = with_own(settings, model.config)
        of_model = Rows(model, processor, request.new_tokens, request.batch_size, request.output / "rows")
        tuning = conclude(of_model.measure(rows, tried, ratios, done), ratios, tried, request.agreement)
    content = {"checkpoint": request.checkpoint, "questions": str(request.questions)} | tuning.as_json()
    files = {"results.json": json.dumps(content, indent=1) + "\n", "results.md": markdown(tuning, request.checkpoint)}
    replace_files({request.output / name: text.encode() for name, text in files.items()})
    if not plot(tuning, request.output / "results.png"):
        (request.output / "results.png").unlink(missing_ok=True)  # one of an earlier run would show other rows
        say(f"there is no plot, which needs matplotlib: {install_command(extra='eval')}")
    if target is not None and tuning.chosen is not None:
        had = tuning.fields.items() <= read_config(target).items()
        in_card = apply(target, tuning)
        config = target / "config.json"
        same = f"nothing had to change in {config}, which has these settings already"
        say(same if had else f"wrote the settings into {config}")
        if in_card:
            say("wrote a line about them into its card")
        else:
            say(f"{target} has no card with the markers of hf-zspa: nothing in it says how it was tuned")
    return tuning
