"""Fixtures of the evaluation's tests: the embedded checkpoint as a loaded lmms-eval model, and its tasks."""

import os

import pytest
import tiny  # noqa: F401  lets torchvision be imported first

os.environ["TQDM_DISABLE"] = "1"

import datasets
from lmms_eval.evaluator import simple_evaluate

from hf_zspa.evaluation import command
from hf_zspa.evaluation.benchmarks import task_manager
from hf_zspa.evaluation.lmms_model import HfZspa


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """What datasets makes of the tests' files stays theirs."""
    datasets.config.HF_DATASETS_CACHE = str(tmp_path_factory.mktemp("datasets"))


@pytest.fixture(scope="session")
def manager():
    return task_manager()


@pytest.fixture(scope="session")
def embedded():
    return HfZspa("embedded", batch_size=8, device="cpu")


@pytest.fixture
def loaded_once(embedded, monkeypatch):
    """The command uses the model that is loaded already."""
    monkeypatch.setattr(command, "HfZspa", lambda checkpoint, **arguments: embedded)


@pytest.fixture
def evaluate_tasks(manager):
    """Runs tasks through lmms-eval and returns what it reports."""

    def run(model, tasks, limit=16):
        return simple_evaluate(
            model=model, tasks=tasks, task_manager=manager, limit=limit, batch_size=8, bootstrap_iters=0,
            log_samples=True,
        )  # fmt: skip

    return run
