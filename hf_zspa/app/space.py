"""The page as a Hugging Face Space: what its repository consists of."""

import json
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from huggingface_hub import SpaceCardData
from huggingface_hub.utils import HFValidationError, validate_repo_id

from ..checkpoints.base import is_converted, known_family, read_config
from ..checkpoints.contents import contents_of
from ..checkpoints.file_policy import is_sent
from ..checkpoints.files import all_or_nothing, check_target, transfer
from ..checkpoints.resolve import hub_id, local_folder, nowhere
from ..checkpoints.shipped import SHIPPED
from ..checkpoints.verify import check_code
from ..version import requirement


def write_space(
    checkpoint: str, target: str | Path, trust_remote_code: bool = False, say: Callable[[str], object] = print
) -> Path:
    """Writes the repository of a Space that serves the page of a checkpoint.

    Args:
        checkpoint: a Hub id, with `@revision` behind it if wanted, which the Space downloads when it starts; a name of
            one inside this package; or a folder, which is copied.
        target: the folder to make.
        trust_remote_code: the Space runs the checkpoint's code whatever it is; else only if it is hf_zspa's.
        say: is told, as a line, of a Hub id that cannot be looked at from here.

    Returns:
        `target`.

    Raises:
        ValueError: the checkpoint is none, or the Space would not run its code, as that of an earlier version; the
            target is not empty or cannot be written. Nothing is left of it.
    """
    target = Path(target).resolve()
    if target.is_dir() and any(target.iterdir()):
        raise ValueError(f"{target} is not empty: name a new folder")
    check_target(target, force=False)
    folder = None if checkpoint in SHIPPED else local_folder(checkpoint)
    served, model = (f"./{folder.name}", None) if folder else (checkpoint, _model(checkpoint))
    if folder and not is_converted(read_config(folder)):
        raise ValueError(f"{checkpoint} is not a zspa checkpoint: make one with hf-zspa convert {checkpoint} OUT")
    needs = _needs(checkpoint, trust_remote_code, say)
    card = SpaceCardData(
        title=f"hf_zspa: {Path(checkpoint).name}",
        sdk="gradio",
        sdk_version=version("gradio"),
        app_file="app.py",
        models=[model] if model else None,
        tags=["hf_zspa", "visual-token-pruning"],
    )
    trust = ", trust_remote_code=True" if trust_remote_code else ""
    name = f"[{model}](https://huggingface.co/{model})" if model else f"`{Path(served).name}`"
    with all_or_nothing(target) as fresh:
        code = f"from hf_zspa.app.serve import launch\n\nlaunch({json.dumps(served)}{trust})\n"
        (fresh / "app.py").write_text(code, encoding="utf-8")
        (fresh / "requirements.txt").write_text("\n".join([requirement(extra="app"), *needs, ""]), encoding="utf-8")
        (fresh / "README.md").write_text(f"---\n{card.to_yaml()}\n---\n\n{_ABOUT.format(name)}", encoding="utf-8")
        if folder:
            for part in (part for part in contents_of(folder).names if is_sent(part) or part.endswith(".py")):
                copy = fresh / served / part
                copy.parent.mkdir(parents=True, exist_ok=True)
                transfer(folder / part, copy, False, lambda done: None)
    return target


_ABOUT = """\
A question about a picture, answered by {} from all visual tokens and from those that
are kept for the question, with what was kept and the time it took. `hf-zspa app --space` wrote these files.
"""


def _needs(checkpoint: str, trust_remote_code: bool, say: Callable[[str], object]) -> tuple[str, ...]:
    """The packages that a checkpoint's processor needs; raises `ValueError` where the Space would not run its code."""
    try:
        folder = contents_of(checkpoint).folder
    except ValueError as error:
        say(
            "requirements.txt has torchvision, which most processors need; see the card of the checkpoint for what its "
            f"own needs, because {error}"
        )
        return ("torchvision",)
    config = read_config(folder)
    if is_converted(config) and not trust_remote_code:
        check_code(folder, checkpoint)
    return known_family(Path(checkpoint), config).needs


def _model(checkpoint: str) -> str | None:
    """The Hub's repository of a checkpoint; None for one inside this package."""
    if checkpoint in SHIPPED:
        return None
    name, _, revision = hub_id(checkpoint).partition("@")
    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise ValueError(nowhere(checkpoint, error, revision)) from error
    return name
