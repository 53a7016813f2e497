"""Rows of pictures and prompts: what is measured of each, and where that is kept until the next time."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from ..checkpoints.files import read_json
from ..loading import question_inputs
from ..output import replace_file
from ..remote_code.zspa_config import CALL_SETTINGS
from ..version import __version__
from .candidates import Setting
from .pictures import Row, digest_of, digest_of_image, opened
from .scoring import Asked


@dataclass(frozen=True)
class Measured:
    """Rows under every candidate.

    Attributes:
        images: a digest of each row's image.
        answers: the unpruned model's, as text.
        tokens: `(rows,)` of each answer.
        stay: `(keep ratios, settings, rows)`, how many of them are the most likely still.
        kl: the same shape, mean KL divergence per token in nats.
    """

    images: list[str]
    answers: list[str]
    tokens: np.ndarray
    stay: np.ndarray
    kl: np.ndarray

    @property
    def whole(self) -> np.ndarray:
        """`(keep ratios, settings, rows)`, whether the whole answer stays."""
        return self.stay == self.tokens

    def of(self, rows: Sequence[int]) -> "Measured":
        """Some of the rows, by their places."""
        images, answers = ([texts[row] for row in rows] for texts in (self.images, self.answers))
        return Measured(images, answers, self.tokens[rows], self.stay[..., rows], self.kl[..., rows])


class Rows:
    """Measures rows of one model.

    Args:
        new_tokens: tokens of an answer at most.
        batch_size: candidates at once.
        folder: where measurements are kept, a file per row, and found again; None keeps none.
    """

    def __init__(self, model: Any, processor: Any, new_tokens: int, batch_size: int, folder: Path | None):
        self.model, self.processor, self.new_tokens, self.batch_size = model, processor, new_tokens, batch_size
        self.folder = folder
        self.of_model = fingerprint(model) if folder else ""

    def measure(
        self, rows: Sequence[Row], settings: Sequence[Setting], keep_ratios: Sequence[float], done: Callable[[], None]
    ) -> Measured:
        """All rows under all candidates; `done` is called after each row.

        Raises:
            ValueError: an image or a prompt is not what it should be, or a file of kept measurements is damaged.
        """
        candidates = {  # the largest keep ratio first: what is kept there tells what is kept of fewer
            f"{ratio:g}": [self.model.pruner_for_call(**each.fields, zspa_keep_ratio=ratio) for each in settings]
            for ratio in sorted(keep_ratios, reverse=True)
        }
        images, records = [], []
        for picture, prompt in rows:
            image = opened(picture)
            images.append(digest_of_image(image))
            inputs = dict(question_inputs(self.model, self.processor, image, prompt))
            path = self._path(inputs)
            record = _read(path) or {"prompt": prompt, "scores": {}}
            if self._complete(record, inputs, settings, candidates) and path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
                replace_file(path, json.dumps(record).encode())
            records.append(record)
            done()
        names, keys = [f"{ratio:g}" for ratio in keep_ratios], [each.key for each in settings]
        found = np.array([[[r["scores"][key][name] for r in records] for key in keys] for name in names], dtype=float)
        return Measured(
            images, [r["answer"] for r in records], np.array([r["tokens"] for r in records]), found[..., 0].astype(int),
            found[..., 1],
        )  # fmt: skip

    def _complete(
        self, record: dict[str, Any], inputs: dict[str, Any], settings: Sequence[Setting], candidates: dict
    ) -> bool:
        """Measures what a row's record lacks; whether that was anything."""
        scores, asked = record["scores"], None
        orders: dict[Setting, list[Any]] = {}
        for name, pruners in candidates.items():
            missing = [
                (each, pruner) for each, pruner in zip(settings, pruners) if name not in scores.get(each.key, {})
            ]
            if not missing:
                continue
            if asked is None:
                asked = Asked(self.model, inputs, self.new_tokens)
                answer = asked.answer[0].tolist()
                record |= {"answer": self.processor.decode(answer, skip_special_tokens=True), "tokens": len(answer)}
            sizes, kept = [len(visual) for visual in asked.visual_tokens], []
            for each, pruner in missing:
                if not each.nested or each not in orders:
                    orders[each] = pruner.in_order(asked.visual_tokens, asked.prompt_tokens)
                kept.append([order[: pruner.budget(n)].sort().values for order, n in zip(orders[each], sizes)])
            for (each, _), score in zip(missing, asked.scores(kept, self.batch_size)):
                scores.setdefault(each.key, {})[name] = [score.stay, round(score.kl, 6)]
        return asked is not None

    def _path(self, inputs: Mapping[str, Any]) -> Path | None:
        """By what the processor has made of the row, so that its own settings count."""
        if self.folder is None:
            return None
        return (
            self.folder / f"{digest_of(self.of_model.encode(), _of_inputs(inputs), str(self.new_tokens).encode())}.json"
        )


def fingerprint(model: Any) -> str:
    """A digest of what a model's answers follow from: weights, of each tensor some thousand numbers, config without the
    fields that are tried, generation config, code, types and versions."""
    config = {name: value for name, value in model.config.to_dict().items() if name not in CALL_SETTINGS}
    config.pop("_name_or_path", None)
    attention = model.config.get_text_config()._attn_implementation
    generation = model.generation_config.to_dict()
    about = [config, generation, str(model.dtype), model.device.type, attention, transformers.__version__, __version__]
    parts = [json.dumps(about, sort_keys=True, default=str).encode()]
    for tensor in model.state_dict().values():
        some = tensor.detach().reshape(-1)[:: max(1, tensor.numel() // 1000)]
        parts.append(b"" if some.is_meta else some.float().cpu().numpy().tobytes())
    return digest_of(*parts)


def _read(path: Path | None) -> dict[str, Any] | None:
    if path is None or not path.is_file():
        return None
    try:
        record = read_json(path)
    except ValueError as error:
        raise ValueError(f"{error}: delete it and run again") from error
    if missing := {"answer", "tokens", "scores"} - record.keys():
        raise ValueError(f"{path} is damaged (without {', '.join(sorted(missing))}): delete it and run again")
    return record


def _of_inputs(inputs: Mapping[str, Any]) -> bytes:
    parts = []
    for name, value in sorted(inputs.items()):
        parts += [name.encode(), str(getattr(value, "shape", value)).encode()]
        if hasattr(value, "shape"):
            tensor = torch.as_tensor(value)
            parts.append((tensor.float() if tensor.is_floating_point() else tensor).cpu().numpy().tobytes())
    return digest_of(*parts).encode()
