"""`hf-zspa push` and `hf-zspa verify`."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from ..checkpoints.file_policy import shown
from .shared import Json, console, flag, quiet, say, say_json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..hub.plan import Plan

app = typer.Typer()


@app.command("push")
def push_command(
    checkpoint: Annotated[Path, typer.Argument(help="The folder of a zspa checkpoint.")],
    repository: Annotated[str, typer.Argument(metavar="REPO_ID", help="Where to publish it, such as org/name.")],
    private: Annotated[bool, flag("--private", help="Make a private repository; a public one is refused.")] = False,
    revision: Annotated[str | None, typer.Option(help="The branch, made if there is none; or refs/pr/1.")] = None,
    create_pr: Annotated[bool, flag("--create-pr", help="Open a pull request instead of writing.")] = False,
    tag: Annotated[str | None, typer.Option(help="A new name for what is published, such as v1.")] = None,
    message: Annotated[str | None, typer.Option(help="Of the commit.")] = None,
    results: Annotated[Path | None, typer.Option(help="A results.json of hf-zspa eval, for the card.")] = None,
    picture: Annotated[Path | None, typer.Option(help="A PNG of hf-zspa visualize, for the card.")] = None,
    dry_run: Annotated[bool, flag("--dry-run", help="Say what would be sent, and change nothing.")] = False,
) -> None:
    """Publishes a checkpoint on the Hub: refreshes its card and sends what the repository lacks, in one commit."""
    from ..hub.push import push_checkpoint

    quiet(progress=not dry_run)
    done = push_checkpoint(
        checkpoint, repository, private=private, revision=revision, create_pr=create_pr, tag=tag, message=message,
        results=results, picture=picture, dry_run=dry_run, say=say,
    )  # fmt: skip
    if dry_run:
        _show(done.plan)
        for line in _foretold(done.plan, repository, private, revision, create_pr):
            say(line)
        return
    if done.commit is None:
        say(f"{done.url} has all of it already")
    else:
        tagged = f", tag {done.plan.tag}" if done.plan.tag else ""
        sent, copied = done.plan.bytes_to("send"), done.plan.bytes_to("copy")
        say(f"{done.url}: commit {done.commit[:8]}{tagged}, {sent:,} bytes sent, {copied:,} copied on the Hub")
        say(f"to check it there: hf-zspa verify {repository}@{done.plan.tag or done.commit}")
    if removed := [step.name for step in done.plan.changes if step.action == "remove"]:
        say(f"removed there, for they are not in {checkpoint}: {shown(', '.join(removed))}")
    if done.plan.left:
        say(f"left there, though they are not in {checkpoint}: {shown(', '.join(done.plan.left))}")


def _show(plan: "Plan") -> None:
    """Prints what a push would do with each file."""
    table = Table(box=None)
    table.add_column("file")
    table.add_column("bytes", justify="right")
    table.add_column("what happens to it")
    for step in plan.steps:
        action = f"copy from {step.source.repository}/{step.source.name}" if step.source else step.action
        table.add_row(Text(shown(step.name)), f"{step.size:,}", Text(shown(action)))
    for name in plan.left:
        table.add_row(Text(shown(name)), f"{plan.remote.files[name].size:,}", "stays")
    console.print(table)


def _foretold(plan: "Plan", repository: str, private: bool, revision: str | None, create_pr: bool) -> "Iterator[str]":
    """What a push would do beside sending files."""
    from huggingface_hub import get_token

    if plan.not_compared:
        yield f"{plan.not_compared}: the Hub was not asked what {repository} has of it"
        return
    exists = plan.remote.exists
    who = {True: "private", False: "public, for all to see", None: "public or private, as it was made"}
    seen = who[plan.remote.private if exists else private]
    yield f"the repository {'is there, and is' if exists else 'would be made, and be'} {seen}"
    if plan.remote.lacks_branch:
        head = plan.remote.head
        yield f"the branch {revision} would be made" + (f" from {head[:8]}" if head else "")
    if plan.changes and create_pr:
        yield "a pull request would be opened, and the branch would stay as it is"
    if plan.tag:
        yield f"the tag {plan.tag} would be made"
    if get_token() is None:
        yield "there is no token, which a push needs: run hf auth login, or set HF_TOKEN"


@app.command("verify")
def verify_command(
    checkpoint: Annotated[str, typer.Argument(help="A folder, or a Hub id with @revision behind it if wanted.")],
    as_json: Json = False,
) -> None:
    """Compares the code in a checkpoint with the installed hf_zspa, byte for byte, without running it."""
    from ..checkpoints.verify import verify_checkpoint
    from ..version import __version__

    quiet()
    found = verify_checkpoint(checkpoint)
    if as_json:
        say_json({"passed": found.passed} | asdict(found))
        raise typer.Exit(not found.passed)
    for file in found.files:
        console.print(Text.assemble((file.name, "bold"), f": {file.problem or 'the same'}"), soft_wrap=True)
    for problem in [*found.problems, found.other_version or ""]:
        if problem:
            console.print(Text(problem), soft_wrap=True)
    if found.commit:
        say(f"commit: {found.commit}")
    if not found.passed:
        say(f"{shown(checkpoint)} is not verified: the lines above say why")
        raise typer.Exit(1)
    say(f"{shown(checkpoint)} has the code of hf_zspa {__version__}, and no other")
    if found.commit:
        say(f'to load what was verified: revision="{found.commit}"')
