"""The paper's benchmarks as tasks of lmms-eval, and where their data comes from."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import datasets
from huggingface_hub import constants, scan_cache_dir
from huggingface_hub.errors import CacheNotFound
from lmms_eval.api.task import ConfigurableMessagesTask
from lmms_eval.tasks import TaskManager
from lmms_eval.utils import load_yaml_config

from .benchmark_list import BENCHMARKS, Benchmark

TASKS = Path(__file__).parent / "tasks"


def task_manager() -> TaskManager:
    """lmms-eval's tasks and ours."""
    return TaskManager(include_path=str(TASKS))


def chosen_task(task: str, data: Path | None, manager: TaskManager) -> str | ConfigurableMessagesTask:
    """What lmms-eval is given for a task: its name, or for local data the task with other data settings.

    Args:
        data: folder with a subfolder per data set, each a copy of the Hub repository or, but for GQA with its two
            parts, a `save_to_disk` folder.
    """
    benchmark = BENCHMARKS.get(task)
    if benchmark is None or data is None:
        return task
    folder = data / benchmark.folder
    saved = (folder / "dataset_dict.json").is_file()
    cache = str(_cache_of(folder))
    config = load_yaml_config(yaml_path=manager.task_index[task]["yaml_path"], mode="full")
    config |= {
        "dataset_path": str(folder),
        "dataset_kwargs": {"load_from_disk": True} if saved else {"cache_dir": cache},
    }
    if task == "gqa":  # its own functions fetch the images from the Hub and copy each of them once per question
        config |= {"process_docs": None, "doc_to_visual": GqaImages(folder, cache)}
    # As an object, because lmms-eval takes a changed config for a task of models without chat.
    return ConfigurableMessagesTask(config=config, model_name="hf_zspa")


@dataclass(frozen=True)
class GqaImages:
    """Finds the image of a GQA question in a local copy of the data set, read through a cache folder."""

    folder: Path
    cache: str

    @cached_property
    def _images(self) -> datasets.Dataset:
        return datasets.load_dataset(str(self.folder), "testdev_balanced_images", split="testdev", cache_dir=self.cache)

    @cached_property
    def _row(self) -> dict[str, int]:
        return {name: row for row, name in enumerate(self._images["id"])}

    def __call__(self, doc: dict[str, Any]) -> list[Any]:
        return [self._images[self._row[doc["imageId"]]]["image"].convert("RGB")]


def _cache_of(folder: Path) -> Path:
    """Where datasets keeps what it makes of a local folder: its own choice goes by the folder's name alone, so that
    another copy of that name would be read as the first."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    states = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    digest = hashlib.sha256(repr(states).encode()).hexdigest()
    return Path(datasets.config.HF_DATASETS_CACHE) / "hf_zspa" / digest[:16]


def check_data(tasks: Sequence[str], data: Path | None, known: Sequence[str]) -> None:
    """Raises `ValueError` where a task is not among those `known`, or its data is neither local nor to be had."""
    unknown = [task for task in tasks if task not in known]
    if unknown:
        raise ValueError(f"lmms-eval has no task {', '.join(unknown)}; the paper's are {', '.join(BENCHMARKS)}")
    missing: dict[str, str] = {}
    for benchmark in (BENCHMARKS[task] for task in tasks if task in BENCHMARKS):
        if data is not None and not _has_data(benchmark, data / benchmark.folder):
            missing[benchmark.repository] = str(data / benchmark.folder)
        elif data is None and _offline() and benchmark.repository not in _cached():
            missing[benchmark.repository] = f"DATA/{benchmark.folder}"
    if missing:
        commands = "; ".join(
            f"hf download --repo-type dataset {name} --local-dir {folder}" for name, folder in missing.items()
        )
        where = f"there is no data of it in {data}" if data else "the Hub is offline (HF_HUB_OFFLINE)"
        raise ValueError(f"{', '.join(missing)}: {where}. Fetch it with {commands}, and pass --data {data or 'DATA'}")


def _has_data(benchmark: Benchmark, folder: Path) -> bool:
    """Whether lmms-eval would find data; it tries an empty folder five times and raises what the CLI cannot show."""
    if (folder / "dataset_dict.json").is_file():
        return benchmark.task != "gqa"  # questions and images are two data sets, one such folder is one of them
    return any(folder.rglob("*.parquet"))


def _offline() -> bool:
    return constants.HF_HUB_OFFLINE or os.environ.get("HF_DATASETS_OFFLINE", "") not in ("", "0")


def _cached() -> set[str]:
    try:
        return {repository.repo_id for repository in scan_cache_dir().repos if repository.repo_type == "dataset"}
    except CacheNotFound:
        return set()
