"""Runs the cells of a sweep through lmms-eval and keeps each one on disk, so that nothing is run twice."""

import hashlib
import json
import os
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from lmms_eval.evaluator import simple_evaluate
from lmms_eval.tasks import TaskManager
from loguru import logger

from .benchmarks import BENCHMARKS, chosen_task
from .cells import Cell
from .lmms_model import HfZspa
from .scoring import Score, aggregate_of, check_against, score_of


@dataclass(frozen=True)
class Measurement:
    """A finished cell: per-sample scores, what lmms-eval made of them, and what it cost."""

    cell: Cell
    metric: str
    score: Score
    documents: list[Any]
    visual_tokens: float  # per sample
    kept_tokens: float
    failed: int
    seconds: float


class Sweep:
    """The cells of one checkpoint in a folder.

    Args:
        model: the loaded checkpoint.
        manager: the tasks there are.
        folder: where cells are kept, `cells/NAME.json`, and what lmms-eval prints, `lmms-eval.log`.
        data: folder of local benchmark data; None for the Hub's.
        limit: samples per task; None for all.

    Raises:
        ValueError: the folder holds measurements of another checkpoint, or with another limit.
    """

    def __init__(
        self, model: HfZspa, manager: TaskManager, folder: Path, data: Path | None = None, limit: int | None = None
    ):
        self.model, self.manager, self.folder, self.data, self.limit = model, manager, folder, data, limit
        self.cells = folder / "cells"
        self.cells.mkdir(parents=True, exist_ok=True)
        identity = {"checkpoint": _fingerprint(model.folder), "limit": limit, "data": str(data) if data else None}
        path = folder / "sweep.json"
        if path.is_file() and (found := json.loads(path.read_text(encoding="utf-8"))) != identity:
            differing = ", ".join(name for name, value in identity.items() if found.get(name) != value)
            raise ValueError(f"{folder} holds another sweep (other {differing}): choose another --output")
        write_json(path, identity)

    def measured(self, cell: Cell) -> Measurement | None:
        """A cell that has been run before; None where it has not."""
        path = self.cells / f"{cell.name}.json"
        if not path.is_file():
            return None
        kept = json.loads(path.read_text(encoding="utf-8"))
        return Measurement(
            cell,
            kept["metric"],
            Score(np.asarray(kept["scores"], dtype=float), aggregate_of(kept["metric"])),
            kept["documents"],
            kept["visual_tokens"],
            kept["kept_tokens"],
            kept["failed"],
            kept["seconds"],
        )

    def run(self, cell: Cell, advance: Callable[[float], None] = lambda share: None) -> Measurement:
        """Measures a cell, or reads it from disk; `advance` hears which share of it each sample is."""
        measured = self.measured(cell)
        if measured is not None:
            advance(1.0)
            return measured
        model = self.model
        model.use_method(
            cell.method,
            keep_ratio=cell.keep_ratio if cell.method != "original" else None,
            core_ratio=cell.core_ratio,
            pooling=cell.pooling,
            seed=cell.seed or 0,
        )
        model.on_sample = lambda record: advance(1 / model.expected)
        start = time.monotonic()
        with into_log(self.folder / "lmms-eval.log"):
            results = simple_evaluate(
                model=model,
                tasks=[chosen_task(cell.task, self.data, self.manager)],
                task_manager=self.manager,
                limit=self.limit,
                batch_size=model.batch_size,
                bootstrap_iters=0,
                log_samples=True,
                # TextVQA writes a file for its server beside the results.
                cli_args=Namespace(output_path=str(self.folder), process_with_media=True),
            )
        seconds = time.monotonic() - start
        measurement = self._measurement(cell, results, seconds)
        rows = measurement.score.per_sample
        write_json(
            self.cells / f"{cell.name}.json",
            {
                **asdict(cell),
                "metric": measurement.metric,
                "value": measurement.score.value,
                "scores": rows.tolist(),
                "documents": measurement.documents,
                "visual_tokens": measurement.visual_tokens,
                "kept_tokens": measurement.kept_tokens,
                "failed": measurement.failed,
                "seconds": round(seconds, 2),
            },
        )
        return measurement

    def _measurement(self, cell: Cell, results: dict[str, Any], seconds: float) -> Measurement:
        samples = sorted(results["samples"][cell.task], key=lambda sample: sample["doc_id"])
        key = _metric_key(cell.task, results["results"][cell.task])
        score = score_of(key.split(",")[0], samples)
        check_against(score, float(results["results"][cell.task][key]))
        records = self.model.records
        pruned = [record for record in records if record.failed is None]
        return Measurement(
            cell,
            key.split(",")[0],
            score,
            [sample["doc_id"] for sample in samples],
            float(np.mean([record.visual_tokens for record in pruned])) if pruned else 0.0,
            float(np.mean([record.kept_tokens for record in pruned])) if pruned else 0.0,
            len(records) - len(pruned),
            seconds,
        )


def write_json(path: Path, content: Any) -> None:
    """Writes a whole file or none."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(json.dumps(content, indent=1, default=str) + "\n", encoding="utf-8")
    os.replace(partial, path)


def _metric_key(task: str, results: dict[str, Any]) -> str:
    """The name under which lmms-eval reports the task's score, such as "exact_match,none"."""
    metric = BENCHMARKS[task].metric if task in BENCHMARKS else None
    for key, value in results.items():
        name, _, filtered = key.partition(",")
        if filtered and not name.endswith(("_stderr", "_stderr_clt", "_stderr_clustered")):
            numeric = isinstance(value, (int, float, np.floating))
            if numeric and metric in (None, name):
                return key
    raise ValueError(f"lmms-eval reports no score for {task}, only {', '.join(results)}")


def _fingerprint(folder: Path) -> str:
    """Of the config, and of the names and sizes of all other files: enough to tell checkpoints apart at once."""
    digest = hashlib.sha256((folder / "config.json").read_bytes())
    for path in sorted(folder.iterdir()):
        if path.suffix in (".safetensors", ".json", ".jinja"):
            digest.update(f"{path.name} {path.stat().st_size}\n".encode())
    return digest.hexdigest()


@contextmanager
def into_log(path: Path) -> Iterator[None]:
    """Sends what lmms-eval and its tasks print to a file."""
    with path.open("a", encoding="utf-8") as file, redirect_stdout(file), redirect_stderr(file):
        logger.remove()
        logger.add(file, level="INFO")
        try:
            yield
        finally:
            logger.remove()
            logger.add(sys.__stderr__, level="WARNING")
