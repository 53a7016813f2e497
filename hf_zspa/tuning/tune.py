"""The smallest keep ratio that leaves a model's answers to one's own prompts as they are, and the settings for it."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..evaluation.statistics import bootstrap_interval
from ..loading import check_placeholders
from ..models.given import check_prompt
from ..remote_code.zspa_checks import check_positive
from .candidates import KEEP_RATIOS, SETTINGS, Setting, check_keep_ratios, with_own
from .choice import Judged, check_rows, halves, interval, judge
from .pictures import Row, digests
from .rows import Measured, Rows


@dataclass(frozen=True)
class Tuning:
    """What was measured, and what is chosen.

    Attributes:
        agreement: the aim, a share of whole answers that stay.
        keep_ratios: those tried, ascending.
        settings: those tried, the checkpoint's own first.
        measured: every row under every candidate.
        choosing: the rows that settings were chosen on.
        judging: the rows that they were judged on, each about a picture of its own.
        judged: the best setting of each keep ratio.
    """

    agreement: float
    keep_ratios: list[float]
    settings: list[Setting]
    measured: Measured
    choosing: list[int]
    judging: list[int]
    judged: list[Judged]

    @property
    def chosen(self) -> Judged | None:
        """That of the smallest keep ratio that reaches the aim; None where none does."""
        return next((each for each in self.judged if each.reaches), None)

    @property
    def fields(self) -> dict[str, Any]:
        """What is chosen, as entries of `config.json`; keep ratio 1 where nothing reaches the aim."""
        if self.chosen is None:
            return {"zspa_keep_ratio": 1.0}
        ratio = {"zspa_keep_ratio": self.keep_ratios[self.chosen.keep_ratio]}
        return ratio | self.settings[self.chosen.setting].fields

    @property
    def pictures(self) -> int:
        """How many the rows are about."""
        return len(set(self.measured.images))

    @property
    def shared(self) -> bool:
        """Whether several rows are about one picture."""
        return self.pictures < len(self.measured.tokens)

    def candidates(self) -> list[dict[str, Any]]:
        """A row per candidate, over all rows measured: shares with 95 % intervals, Clopper and Pearson's for whole
        answers, as if there were one row about each picture, else of a bootstrap over pictures."""
        measured, n, pictures = self.measured, len(self.measured.tokens), self.pictures
        numbers = {image: number for number, image in enumerate(dict.fromkeys(measured.images))}
        of_row = [numbers[image] for image in measured.images]

        def summed(*columns: np.ndarray) -> np.ndarray:
            """`(pictures, columns)`."""
            found = np.zeros((pictures, len(columns)))
            np.add.at(found, of_row, np.stack(columns, axis=1))
            return found

        found = []
        for r, ratio in enumerate(self.keep_ratios):
            for s, setting in enumerate(self.settings):
                whole = int(measured.whole[r, s].sum())
                tokens = summed(measured.stay[r, s], measured.tokens)
                kl = summed(measured.kl[r, s], np.ones(n))
                row = {
                    "keep_ratio": ratio, "setting": str(setting), **setting.fields,
                    "whole": _shown(whole / n, interval(round(whole * pictures / n), pictures)),
                    "tokens": _shown(_ratio(tokens), bootstrap_interval(tokens, _ratio)),
                    "kl": _shown(_ratio(kl), bootstrap_interval(kl, _ratio)),
                }  # fmt: skip
                found.append(row)
        return found

    def as_json(self) -> dict[str, Any]:
        """All of it for a program, answers left out."""
        judged = [
            {
                "keep_ratio": self.keep_ratios[each.keep_ratio], "setting": str(self.settings[each.setting]),
                "stay": each.stay, "rows": each.rows, "bound": round(each.bound, 4), "reaches": each.reaches,
            }
            for each in self.judged
        ]  # fmt: skip
        return {
            "agreement": self.agreement, "rows": len(self.measured.tokens), "pictures": self.pictures,
            "judging_rows": len(self.judging), "chosen": self.fields if self.chosen else None, "judged": judged,
            "candidates": self.candidates(),
        }  # fmt: skip


def tune(
    model: Any,
    rows: Iterable[Row],
    processor: Any,
    *,
    agreement: float = 0.98,
    keep_ratios: Iterable[float] = KEEP_RATIOS,
    settings: Iterable[Setting] = SETTINGS,
    new_tokens: int = 32,
    batch_size: int = 8,
    folder: Path | None = None,
    done: Callable[[], None] = lambda: None,
) -> Tuning:
    """Finds the smallest keep ratio at which a model's answers stay as they are without pruning, and by which settings.

    Nothing is labelled: the unpruned model's own greedy answer is forced on the model under each candidate's prompt, in
    one forward pass. A whole answer stays where each of its tokens is the most likely still. Settings are chosen on the
    rows about a random half of the images, and the one-sided 95 % bound (Clopper and Pearson) that decides comes from
    one row about each of the others. It holds for rows like these: images drawn from what will be asked about.

    Args:
        model: a zspa model.
        rows: pairs of an image, a path or a Pillow image, and a prompt.
        processor: the model's.
        agreement: the share of whole answers that are to stay, in (0, 1).
        keep_ratios: those to try, between 0 and 1.
        settings: those to try beside the model's own.
        new_tokens: tokens of an answer at most; what would come later is not looked at.
        batch_size: candidates in one forward pass.
        folder: where the measurements of each row are kept, and found again by a later run.
        done: called after each row.

    Returns:
        What was measured and what is chosen; its `fields` are arguments of `generate` and `hf_zspa.convert_checkpoint`.

    Raises:
        ValueError: rows are about too few images for the agreement, the model does not prune, a ratio or a number is
            outside its range, or an image or a prompt is not what it should be.
        TypeError: a row is no such pair, or a setting is none of `hf_zspa.tuning.candidates`.
    """
    if not hasattr(model, "pruner_for_call"):
        raise ValueError(
            f"the model is a {type(model).__name__}, which does not prune: give it to hf_zspa.prune, or convert its "
            "checkpoint"
        )
    ratios = check_keep_ratios(keep_ratios)
    check_positive("new_tokens", new_tokens)
    check_positive("batch_size", batch_size)
    rows, tried = list(rows), with_own(settings, model.config)
    for number, row in enumerate(rows, 1):
        _check_row(row, number, processor)
    check_rows(agreement, digests(rows))
    measured = Rows(model, processor, new_tokens, batch_size, folder).measure(rows, tried, ratios, done)
    return conclude(measured, ratios, tried, agreement)


def conclude(measured: Measured, keep_ratios: list[float], settings: list[Setting], agreement: float) -> Tuning:
    """What rows that were measured under these candidates say.

    Raises:
        ValueError: rows are too few for the agreement.
    """
    check_rows(agreement, measured.images)
    choosing, judging = halves(measured.images)
    judged = judge(measured.whole, measured.kl, choosing, judging, agreement)
    return Tuning(agreement, keep_ratios, settings, measured, choosing, judging, judged)


def _check_row(row: Any, number: int, processor: Any) -> None:
    is_pair = isinstance(row, tuple | list) and len(row) == 2
    if not is_pair or not isinstance(row[0], str | Path | Image.Image) or not isinstance(row[1], str):
        raise TypeError(
            f"row {number} is {row!r}, but must be a pair of an image, a path or a Pillow image, and a prompt, a text"
        )
    check_prompt(row[1], f"the prompt of row {number}")
    check_placeholders(processor, row[1])


def _ratio(rows: np.ndarray) -> Any:
    """Of `(..., n, 2)`, parts and wholes."""
    return rows[..., 0].sum(-1) / rows[..., 1].sum(-1)


def _shown(value: float, bounds: tuple[float, float]) -> dict[str, Any]:
    return {"value": round(float(value), 4), "interval": [round(float(each), 4) for each in bounds]}
