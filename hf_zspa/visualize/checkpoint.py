"""The picture of what a checkpoint keeps of an image for a question."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from ..checkpoints.base import read_config
from ..checkpoints.resolve import checkpoint_folder
from ..models.given import check_prompt, open_image
from ..output import picture_file, save_picture
from ..pruners.registry import BASELINES
from ..remote_code.zspa_config import FIELDS, check_given

if TYPE_CHECKING:
    from .selection import Selection


def visualize_checkpoint(
    checkpoint: str | Path,
    image_file: str | Path,
    prompt: str,
    output: str | Path,
    *,
    compare: bool = False,
    trust_remote_code: bool = False,
    **settings: Any,
) -> "Selection":
    """Writes the picture of what a checkpoint keeps of one image for one question.

    Args:
        checkpoint: a zspa checkpoint, or a base, which prunes by the default fields: a folder or a Hub id.
        image_file: a picture that Pillow reads.
        prompt: the question about it.
        output: the picture to write, in the format it ends like.
        compare: show diversity alone, relevance alone and their balance in place of the heat map.
        trust_remote_code: run the checkpoint's code whatever it is; else only if it is that of this package.
        settings: `keep_ratio`, `method`, `core_ratio`, `relevance_weight`, `pooling` and `centre`, in place of the
            checkpoint's.

    Returns:
        The selection that the picture shows.

    Raises:
        ValueError: a file, a folder, the prompt, the checkpoint or a setting is not what it should be.
        OSError: `output` cannot be written; it is as it was.
    """
    check_prompt(prompt)
    target, image = picture_file(output), open_image(image_file)
    given = {f"zspa_{name}": value for name, value in settings.items() if value is not None}
    if given and not trust_remote_code:  # else the checkpoint's own code says what it takes
        check_given(given, (FIELDS | read_config(checkpoint_folder(checkpoint, weights=False)))["zspa_method"])
    from ..loading import load_zspa  # which takes seconds

    model, processor = load_zspa(checkpoint, trust_remote_code)
    figure, selection = draw_selection(model, processor, image, prompt, compare=compare, **settings)
    save_picture(figure, target)
    return selection


def draw_selection(
    model, processor, image: Image.Image, prompt: str, *, compare: bool = False, **settings: Any
) -> tuple[Image.Image, "Selection"]:
    """The picture of what a loaded model keeps of one image for one question, and the selection that it shows.

    Args:
        model: one that prunes.
        processor: the model's.
        compare: show diversity alone, relevance alone and their balance in place of the heat map.
        settings: as `visualize_checkpoint` takes them.

    Raises:
        ValueError: the prompt or a setting is not what it should be.
    """
    from ..loading import question_inputs
    from .panels import comparison, picture
    from .selection import explain
    from .token_grid import token_views

    inputs = question_inputs(model, processor, image, prompt)
    selection = explain(model, inputs, **settings)
    views = token_views(model, processor, inputs, image, len(selection.scores))
    if compare:
        keep = {"keep_ratio": settings.get("keep_ratio"), "method": "zspa"}
        ends = {end.label: explain(model, inputs, **keep, core_ratio=end.core_ratio) for end in BASELINES}
        return comparison(views, ends | {"balance": selection}, prompt), selection
    return picture(views, selection, prompt), selection
