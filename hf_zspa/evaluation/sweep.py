"""Runs the cells of a sweep through lmms-eval and keeps each one on disk, so that nothing is run twice."""

import json
import platform
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lmms_eval.evaluator import simple_evaluate
from lmms_eval.tasks import TaskManager
from loguru import logger

from ..checkpoints.files import read_json
from ..output import replace_file
from ..pruners.registry import PRUNER_SETTINGS
from ..version import __version__
from .benchmarks import BENCHMARKS
from .cells import Cell
from .fingerprint import combined, folder_digests, source_digests
from .lmms_model import HfZspa
from .lmms_tasks import chosen_task, data_digest, reaching_the_data
from .scoring import Score, aggregate_of, check_against, count_failures, score_of

_LISTED = 6  # differences that an error names


@dataclass(frozen=True)
class Measurement:
    """A measured cell: per-sample scores, what it cost, and in `setup` when and on what it was measured."""

    cell: Cell
    metric: str
    score: Score
    documents: list[Any]
    visual_tokens: float  # per sample
    kept_tokens: float
    failed: int  # samples; they count as wrong
    seconds: float
    stages: dict[str, float]  # milliseconds per sample
    setup: dict[str, Any]


class Sweep:
    """The cells of one checkpoint in a folder.

    Args:
        model: the loaded checkpoint.
        manager: the tasks there are.
        folder: where cells are kept, `cells/NAME.json`, what lmms-eval prints, `lmms-eval.log`, and in `sweep.json` all
            that has to stay the same for cells to belong together. The batch size need not, answers do not depend on
            it; nor need `on_error`, as a cell with failures is measured again.
        data: folder of local benchmark data; None for the Hub's.
        limit: samples per task; None for all.

    Attributes:
        settings: how the checkpoint runs.

    Raises:
        ValueError: the folder holds measurements of other weights, code, versions or settings; the message names them.
    """

    def __init__(
        self, model: HfZspa, manager: TaskManager, folder: Path, data: Path | None = None, limit: int | None = None
    ):
        self.model, self.manager, self.folder, self.data, self.limit = model, manager, folder, data, limit
        self.cells = folder / "cells"
        self.cells.mkdir(parents=True, exist_ok=True)
        self.settings = _settings(model, limit)
        identity = {
            "settings": self.settings,
            "versions": versions(),
            "files": folder_digests(model.folder) | source_digests(),
        }
        self._identity = combined(identity)
        self._data: dict[str, str | None] = {}
        path = folder / "sweep.json"
        if path.is_file():
            _check_same(folder, _read(path, "choose another --output"), identity)
        else:
            write_json(path, identity)

    def measured(self, cell: Cell) -> Measurement | None:
        """A cell that has been run before; None where it has not, or where samples failed.

        Raises:
            ValueError: its file is damaged, or is about another cell, other data or another sweep.
        """
        path = self.cells / f"{cell.name}.json"
        if not path.is_file():
            return None
        kept = _read(path, "delete it and run again")
        wanted = self._about(cell)
        try:
            found = {name: kept[name] for name in wanted}
            measurement = _from_json(cell, kept)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} is damaged ({type(error).__name__}: {error}): delete it and run again") from error
        if found != wanted:
            raise ValueError(
                f"{path} was measured with other {', '.join(_differing(found, wanted))}: delete it and run again, or "
                "choose another --output"
            )
        return None if measurement.failed else measurement

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
            **{name: getattr(cell, name) for name in PRUNER_SETTINGS},
        )
        model.on_sample = lambda record: advance(1 / model.expected)
        start = time.monotonic()
        with reaching_the_data(cell.task), into_log(self.folder / "lmms-eval.log"):
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
                process_docs_parallel=1,  # MMMU draws answers at random, and threads would take them in any order
            )
        measurement = self._measurement(cell, results, time.monotonic() - start)
        write_json(
            self.cells / f"{cell.name}.json",
            {
                **self._about(cell),
                "metric": measurement.metric,
                "value": measurement.score.value,
                "scores": measurement.score.per_sample.tolist(),
                "documents": measurement.documents,
                "visual_tokens": measurement.visual_tokens,
                "kept_tokens": measurement.kept_tokens,
                "failed": measurement.failed,
                "seconds": round(measurement.seconds, 2),
                "stages": measurement.stages,
                "setup": measurement.setup,
            },
        )
        return measurement

    def _about(self, cell: Cell) -> dict[str, Any]:
        """What a cell's file says it is about."""
        if cell.task not in self._data:
            self._data[cell.task] = data_digest(cell.task, self.data)
        return {**asdict(cell), "data": self._data[cell.task], "sweep": self._identity}

    def _measurement(self, cell: Cell, results: dict[str, Any], seconds: float) -> Measurement:
        samples = sorted(results["samples"][cell.task], key=lambda sample: sample["doc_id"])
        key = _metric_key(cell.task, results["results"][cell.task])
        metric = key.split(",")[0]
        score = score_of(metric, samples)
        check_against(score, float(results["results"][cell.task][key]))
        records = self.model.records
        pruned = [record for record in records if record.failed is None]
        failed = {record.doc_id for record in records if record.failed is not None}
        if failed and results["higher_is_better"][cell.task].get(metric) is False:
            raise ValueError(f"{metric} of {cell.task} has no value for a failed sample: leave out --on-error count")
        return Measurement(
            cell,
            metric,
            count_failures(score, metric, samples, failed),
            [sample["doc_id"] for sample in samples],
            float(np.mean([record.visual_tokens for record in pruned])) if pruned else 0.0,
            float(np.mean([record.kept_tokens for record in pruned])) if pruned else 0.0,
            len(failed),
            seconds,
            {name: round(1e3 * spent / len(samples), 2) for name, spent in self.model.clock.seconds.items()},
            {
                "date": time.strftime("%Y-%m-%d"),
                "hardware": _hardware(self.model.device),
                "versions": versions(),
                "batch_size": self.model.batch_size,
            },
        )


def versions() -> dict[str, str]:
    """Of this package and of those whose code decides a score."""
    return {"hf-zspa": __version__} | {name: version(name) for name in ("lmms-eval", "torch", "transformers")}


def write_json(path: Path, content: Any) -> None:
    """Writes a whole file or none."""
    replace_file(path, as_json(content))


def as_json(content: Any) -> bytes:
    return (json.dumps(content, indent=1, default=str) + "\n").encode()


def _from_json(cell: Cell, kept: Mapping[str, Any]) -> Measurement:
    """Raises one of `KeyError`, `TypeError` and `ValueError` where `kept` is not what `Sweep.run` wrote."""
    score = Score(np.asarray(kept["scores"], dtype=float), aggregate_of(kept["metric"]))
    if len(kept["documents"]) != len(score.per_sample) or score.value != kept["value"]:
        raise ValueError("its scores are not those of its value")
    names = ("metric", "documents", "visual_tokens", "kept_tokens", "failed", "seconds", "stages", "setup")
    return Measurement(cell, score=score, **{name: kept[name] for name in names})


def _read(path: Path, remedy: str) -> dict[str, Any]:
    try:
        return read_json(path)
    except ValueError as error:
        raise ValueError(f"{error}: {remedy}") from error


def _settings(model: HfZspa, limit: int | None) -> dict[str, Any]:
    return {
        "device": model.device.type,
        "dtype": str(model.model.dtype).removeprefix("torch."),
        "attention": model.model.config._attn_implementation,
        "min_pixels": model.settings.min_pixels,
        "max_pixels": model.settings.max_pixels,
        "system_prompt": model.system_prompt,
        "limit": limit,
    }


def _hardware(device: torch.device) -> dict[str, Any]:
    if device.type == "cuda":
        return {"device": torch.cuda.get_device_name(device), "count": torch.cuda.device_count()}
    return {"device": f"CPU ({platform.machine()})", "threads": torch.get_num_threads()}


def _check_same(folder: Path, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Raises `ValueError` that names what differs between two sweeps: settings and versions with both values, files by
    their names."""
    if found == wanted:
        return
    parts = {section: (found.get(section) or {}, wanted[section]) for section in wanted}
    named = [
        f"{name} ({there.get(name)}, now {now.get(name)})"
        for section, (there, now) in parts.items()
        for name in _differing(there, now)
        if section != "files"
    ]
    named += _differing(*parts["files"])
    listed = ", ".join(named[:_LISTED]) + (f" and {len(named) - _LISTED} more" if len(named) > _LISTED else "")
    raise ValueError(f"{folder} holds another sweep (other {listed}): choose another --output")


def _differing(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    return [name for name in {**wanted, **found} if found.get(name) != wanted.get(name)]


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
