"""The prompts of an lmms-eval task as inputs of a model, for measurements other than of answers."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lmms_eval.api.instance import Instance
from lmms_eval.evaluator import simple_evaluate

from .lmms_model import HfZspa
from .lmms_tasks import check_data, chosen_task, reaching_the_data, task_manager
from .requests import Batch, batches_of
from .sweep import into_log


class _Listener(HfZspa):
    """Takes down what a task asks, and answers nothing."""

    batches: Iterator[Batch] = iter(())

    def generate_until(self, requests: list[Instance]) -> list[str]:
        self.batches = batches_of(requests, self.task_dict, 1, self._messages)
        return [""] * len(requests)


def task_prompts(
    checkpoint: str, task: str, data: Path | None, limit: int | None, log: Path, **model: Any
) -> tuple[Any, Iterator[dict[str, Any]]]:
    """A checkpoint's model, and what its processor makes of each question of a task, one at a time.

    Args:
        data: folder of local benchmark data; None for the Hub's.
        limit: questions at most.
        log: a file for what lmms-eval prints.
        model: arguments of `HfZspa`.

    Raises:
        ValueError: the task is unknown, its data is missing, or the checkpoint does not prune.
    """
    manager = task_manager()
    check_data([task], data, manager)
    listener = _Listener(checkpoint, **model)
    listener.use_method("zspa")  # raises where the checkpoint is not converted
    log.parent.mkdir(parents=True, exist_ok=True)
    with reaching_the_data(task), into_log(log):
        simple_evaluate(
            model=listener, tasks=[chosen_task(task, data, manager)], task_manager=manager, limit=limit, batch_size=1,
            bootstrap_iters=0,
        )  # fmt: skip
    return listener.model, (dict(listener._inputs(batch.samples)) for batch in listener.batches)
