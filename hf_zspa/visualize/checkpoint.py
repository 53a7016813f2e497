"""The picture of what a checkpoint keeps of an image for a question."""

from pathlib import Path

from ..loading import check_prompt, load_zspa, open_image, question_inputs
from ..output import picture_file, save_picture
from ..pruners.registry import BASELINES
from .panels import comparison, picture
from .selection import Selection, explain
from .token_grid import token_views


def visualize_checkpoint(
    checkpoint: str | Path,
    image_file: str | Path,
    prompt: str,
    output: str | Path,
    *,
    compare: bool = False,
    keep_ratio: float | None = None,
    core_ratio: float | None = None,
    trust_remote_code: bool = False,
) -> Selection:
    """Writes the picture of what a checkpoint keeps of one image for one question.

    Args:
        checkpoint: a zspa checkpoint: a folder or a Hub id.
        image_file: a picture that Pillow reads.
        prompt: the question about it.
        output: the picture to write, in the format it ends like.
        compare: show diversity alone, relevance alone and their balance in place of the heat map.
        keep_ratio: in place of the checkpoint's.
        core_ratio: in place of the checkpoint's.
        trust_remote_code: run the checkpoint's code whatever it is; else only if it is that of this package.

    Returns:
        The selection that the picture shows.

    Raises:
        ValueError: a file, a folder, the prompt, the checkpoint or a ratio is not what it should be.
        OSError: `output` cannot be written; it is as it was.
    """
    check_prompt(prompt)
    target, image = picture_file(output), open_image(image_file)
    model, processor = load_zspa(checkpoint, trust_remote_code)
    inputs = question_inputs(model, processor, image, prompt)
    selection = explain(model, inputs, keep_ratio, core_ratio)
    views = token_views(model, processor, inputs, image, len(selection.scores))
    if compare:
        ends = {end.label: explain(model, inputs, keep_ratio, end.core_ratio) for end in BASELINES}
        figure = comparison(views, ends | {"balance": selection}, prompt)
    else:
        figure = picture(views, selection, prompt)
    save_picture(figure, target)
    return selection
