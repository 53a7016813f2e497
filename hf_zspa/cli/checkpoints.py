"""`hf-zspa convert` and `hf-zspa inspect`."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from ..version import __version__
from .settings import Centre, CoreRatio, KeepRatio, Method, Pooling, RelevanceWeight, chosen
from .shared import Json, as_typed, byte_progress, console, flag, quiet, say, say_json

if TYPE_CHECKING:
    from ..checkpoints.inspect import CheckpointInfo

app = typer.Typer()


@app.command("convert")
def convert_command(
    base: Annotated[str, typer.Argument(help="A stock checkpoint: a folder or a Hub id.")],
    out: Annotated[Path, typer.Argument(help="The folder to make.")],
    keep_ratio: KeepRatio = None,
    method: Method = None,
    core_ratio: CoreRatio = None,
    relevance_weight: RelevanceWeight = None,
    pooling: Pooling = None,
    centre: Centre = None,
    prompt_scope: Annotated[str | None, typer.Option(help="query, the last user turn, or text, all of it.")] = None,
    position_ids: Annotated[str | None, typer.Option(help="preserve, or compact: not with M-RoPE.")] = None,
    preset: Annotated[Path | None, typer.Option(help="A JSON file of fields; options given here go before it.")] = None,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit of a Hub id.")] = None,
    force: Annotated[bool, flag("--force", help="Replace OUT if it is not empty.")] = False,
    link: Annotated[bool, flag("--link", help="Hard link the weights: OUT and BASE share them.")] = False,
) -> None:
    """Makes a checkpoint that prunes its own visual tokens; the weights stay as they are."""
    from ..checkpoints.base import read_config, untried_quantization
    from ..checkpoints.convert import convert_checkpoint, read_preset
    from ..remote_code.zspa_config import FIELDS, POSITION_IDS, check_fields, check_given

    quiet()
    settings = chosen(locals())
    options = settings | {"prompt_scope": prompt_scope, "position_ids": position_ids}
    given = {name: value for name, value in options.items() if value is not None}
    fields = (read_preset(preset) if preset else {}) | {f"zspa_{name}": value for name, value in given.items()}
    with as_typed(**given), byte_progress("weights") as progress:
        check_fields(fields, POSITION_IDS)  # before the base is looked for
        # A preset may have what its method does not read, as every config.json does.
        check_given({f"zspa_{name}": value for name, value in settings.items()}, (FIELDS | fields)["zspa_method"])
        target = convert_checkpoint(base, out, force=force, link=link, revision=revision, progress=progress, **fields)
    if not read_config(target)["zspa_query_start_ids"]:
        say("no chat template says where a question begins: relevance is measured against all text")
    say(f"wrote {target}: load it with trust_remote_code=True")
    if untried := untried_quantization(read_config(target)):
        say(f"its weights are quantized ({untried}): pruned models have not been run with that")
    if read_config(target)["zspa_keep_ratio"] < 0.5:
        say(
            "documents and other dense text lose most, and a tenth of the tokens can ruin them: keep far more, or all "
            f"(zspa_keep_ratio 1.0). How many, hf-zspa tune {out} --questions FILE finds out on pictures of your own"
        )


@app.command("upgrade")
def upgrade_command(
    checkpoint: Annotated[str, typer.Argument(help="The folder of a zspa checkpoint.")],
) -> None:
    """Gives a checkpoint the code of the installed version; its fields and weights stay."""
    from ..checkpoints.upgrade import upgrade_checkpoint

    quiet()
    before = upgrade_checkpoint(checkpoint)
    if before is None:
        say(f"{checkpoint} has the code of hf_zspa {__version__} already: nothing was changed")
    else:
        say(f"{checkpoint} has the code of hf_zspa {__version__} now, in place of that of {before}")


@app.command("inspect")
def inspect_command(
    checkpoint: Annotated[str, typer.Argument(help="A checkpoint: a folder or a Hub id.")],
    files: Annotated[bool, flag("--files", help="List the files too, with sizes and SHA-256.")] = False,
    as_json: Json = False,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit of a Hub id.")] = None,
) -> None:
    """Shows what a checkpoint will do: ratios, tokens kept, whose code it has, prompt scope and turn markers."""
    from ..checkpoints.inspect import inspect_checkpoint

    quiet()
    with byte_progress("digests") as progress:
        info = inspect_checkpoint(checkpoint, revision=revision, files=files, progress=progress)
    if as_json:
        say_json({name: value for name, value in asdict(info).items() if files or name != "files"})
        return
    console.print(_facts_table(checkpoint, info))
    for file in info.files or ():
        print(f"{file.sha256} {file.size:>14,} {file.name}")


def _facts_table(checkpoint: str, info: "CheckpointInfo") -> Table:
    from ..remote_code.zspa_config import fields_read, shown

    fields = info.fields
    facts = {
        "checkpoint": checkpoint,
        "folder": str(info.path),
        "family": info.model_type,
        "converted": "yes" if info.converted else "no, these are the fields that hf-zspa convert would give it",
        "code": _code(info.verified, info.version),
        "method": fields["zspa_method"],
        **{shown(name): str(value) for name, value in fields_read(fields).items()},
        "an image": _kept(info),
        "prompt scope": fields["zspa_prompt_scope"],
        "position ids": fields["zspa_position_ids"],
        "a user turn opens with": _markers(info.turn_starts, fields["zspa_query_start_ids"]),
        "a user turn closes with": _markers(info.turn_ends, fields["zspa_query_end_ids"]),
        "never part of a question": f"{len(fields['zspa_special_token_ids'] or [])} special tokens",
    }
    table = Table(show_header=False, box=None)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts.items():
        table.add_row(name, Text(value))
    return table


def _code(verified: bool | None, version: str | None) -> str:
    if verified is None:
        return "none of hf_zspa"
    if verified:
        return f"that of the installed hf_zspa {__version__}"
    if version not in (None, __version__):
        return f"written by hf_zspa {version}: hf-zspa upgrade gives a folder that of {__version__}"
    return "not as installed: hf-zspa verify says how"


def _kept(info: "CheckpointInfo") -> str:
    """What is kept of typical images, a line each."""
    lines = []
    for example in info.examples:
        kept = f"{example.kept} of {example.visual_tokens} tokens kept"
        if example.core is not None:
            kept += f", {example.core} by relevance"
        line = f"{'of any size' if example.image == 'any' else example.image}: {kept}"
        lines.append(line if example.asked else f"{line}: the question plays no part")
    return "\n".join(lines) or "not known from the config"


def _markers(texts: list[str], sequences: list[list[int]] | None) -> str:
    lines = [f"{text!r} {ids}" for text, ids in zip(texts, sequences or [])]
    return "\n".join(lines) or "nothing known: the scope is all text"
