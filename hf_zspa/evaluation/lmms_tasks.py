"""The paper's benchmarks as tasks of lmms-eval, and where their data comes from."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import datasets
from huggingface_hub import constants, scan_cache_dir
from huggingface_hub.errors import CacheNotFound, LocalTokenNotFoundError
from lmms_eval.api.task import ConfigurableMessagesTask
from lmms_eval.tasks import TaskManager
from lmms_eval.utils import load_yaml_config
from tenacity import RetryError

from ..checkpoints.resolve import FAILURES
from .benchmarks import BENCHMARKS, Benchmark
from .fingerprint import DATA_SUFFIXES, combined, folder_digests

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


@contextmanager
def reaching_the_data(task: str) -> Iterator[None]:
    """Turns what lmms-eval raises, having tried several times, where the Hub does not give it a task's data.

    Raises:
        ValueError: it does not; the message says what to do.
    """
    try:
        yield
    except RetryError as error:
        reason = error.last_attempt.exception()
        instead = "or fetch the data set where that is done already, and pass --data"
        if isinstance(reason, LocalTokenNotFoundError):
            raise ValueError(f"the data of {task} needs a login at the Hub: run hf auth login, {instead}") from error
        if not isinstance(reason, (OSError, *FAILURES)):
            raise
        said = " ".join(str(reason).split())[:200]
        raise ValueError(
            f"the data of {task} cannot be had from the Hub ({said}): try again with a network, {instead}"
        ) from error


def data_digest(task: str, data: Path | None) -> str | None:
    """A digest of the local data of a task; None where its data is not local."""
    if task not in BENCHMARKS or data is None:
        return None
    return combined(folder_digests(data / BENCHMARKS[task].folder, DATA_SUFFIXES))


def _cache_of(folder: Path) -> Path:
    """Where datasets keeps what it makes of a local folder: its own choice goes by the folder's name alone, so that
    another copy of that name would be read as the first."""
    digest = combined({"folder": str(folder.resolve()), **folder_digests(folder, DATA_SUFFIXES)})
    return Path(datasets.config.HF_DATASETS_CACHE) / "hf_zspa" / digest[:16]


def check_data(tasks: Sequence[str], data: Path | None, manager: TaskManager) -> None:
    """Raises `ValueError` where a name is not that of a task to answer, or its data is neither local nor to be had."""
    unknown = [task for task in tasks if task not in manager.all_tasks]
    if unknown:
        raise ValueError(f"lmms-eval has no task {', '.join(unknown)}; the paper's are {', '.join(BENCHMARKS)}")
    for task in tasks:
        _check_answerable(task, manager.task_index[task])
    elsewhere = [task for task in tasks if task not in BENCHMARKS]
    if data is not None and elsewhere:
        raise ValueError(
            f"--data has data sets of {', '.join(BENCHMARKS)}, which {', '.join(elsewhere)} would not read: evaluate "
            "such tasks without it"
        )
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


def _check_answerable(name: str, entry: dict[str, Any]) -> None:
    """Raises `ValueError` where a name stands for several tasks, or for one that asks for no generated answer."""
    config = {} if entry["type"] == "tag" else load_yaml_config(yaml_path=entry["yaml_path"], mode="simple")
    if entry["type"] in ("tag", "group"):
        members = entry["task"] if entry["type"] == "tag" else config["task"]
        some = ", ".join([member for member in members if isinstance(member, str)][:6])
        raise ValueError(
            f"{name} stands for several of lmms-eval's tasks: give some of them{some and f', such as {some}'}"
        )
    wanted = config.get("output_type", "generate_until")
    if wanted != "generate_until":
        way = ": run it with python -m lmms_eval --model hf_zspa --force_simple" if wanted == "multiple_choice" else ""
        raise ValueError(f"{name} is a task of {wanted}, but hf-zspa eval runs those of generate_until only{way}")


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
