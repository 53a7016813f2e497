"""Fixtures of the evaluation's tests: the embedded checkpoint as a loaded lmms-eval model, and its tasks."""

import gc
import os

import pytest
import tiny  # noqa: F401  lets torchvision be imported first

os.environ["TQDM_DISABLE"] = "1"

import datasets
from lmms_eval.evaluator import simple_evaluate

from hf_zspa.evaluation import command, scenes_task
from hf_zspa.evaluation.lmms_model import HfZspa
from hf_zspa.evaluation.lmms_tasks import task_manager


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """What datasets makes of the tests' files stays theirs."""
    datasets.config.HF_DATASETS_CACHE = str(tmp_path_factory.mktemp("datasets"))


@pytest.fixture(scope="session", autouse=True)
def few_scenes():
    """The first questions of each kind, in place of 500: they are the same however many are drawn."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scenes_task, "QUESTIONS", 16)
        yield


@pytest.fixture(scope="session")
def manager():
    manager = task_manager()
    gc.freeze()  # lmms-eval collects garbage after every run, and need not look at all this each time
    yield manager
    gc.unfreeze()


@pytest.fixture(scope="session")
def embedded():
    return HfZspa("embedded", batch_size=8, device="cpu")


@pytest.fixture
def loaded_once(embedded, manager, monkeypatch):
    """The command uses the model that is loaded already, and the index of lmms-eval's tasks."""
    monkeypatch.setattr(command, "HfZspa", lambda checkpoint, **arguments: embedded)
    monkeypatch.setattr(command, "task_manager", lambda: manager)


@pytest.fixture
def evaluate_tasks(manager):
    """Runs tasks through lmms-eval and returns what it reports."""

    def run(model, tasks, limit=16):
        return simple_evaluate(
            model=model, tasks=tasks, task_manager=manager, limit=limit, batch_size=8, bootstrap_iters=0,
            log_samples=True,
        )  # fmt: skip

    return run
