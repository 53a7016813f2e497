"""The embedded benchmark: held-out questions of the embedded models as lmms-eval tasks, drawn from seeds.

`zspa_scenes` asks about scenes of one size, `zspa_scenes_varied` about scenes of many, for models that take any. Each
is a group with one task per kind of question: `zspa_scenes_reading` and so on. An answer is right when it is the
expected word.
"""

from functools import lru_cache
from typing import Any

import datasets
from lmms_eval.api.task import ConfigurableMessagesTask

from ..scenes.heldout import collect
from ..scenes.questions import KINDS

QUESTIONS = 500  # of each kind


@lru_cache(maxsize=2)
def scene_documents(varied: bool) -> dict[str, datasets.Dataset]:
    """Per kind the questions: image, question, answer."""
    heldout = collect(QUESTIONS, varied=varied)
    rows: dict[str, list[dict[str, Any]]] = {kind: [] for kind in KINDS}
    for image, question in heldout.questions:
        rows[question.kind].append(
            {"image": heldout.images[image], "question": question.text, "answer": question.answer}
        )
    features = datasets.Features(
        {"image": datasets.Image(), "question": datasets.Value("string"), "answer": datasets.Value("string")}
    )
    return {
        kind: datasets.Dataset.from_dict({name: [row[name] for row in found] for name in features}, features=features)
        for kind, found in rows.items()
    }


class ScenesTask(ConfigurableMessagesTask):
    """A kind of question; `metadata.kind` and `metadata.varied` of its file say which."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(config={key: value for key, value in config.items() if key != "class"})

    def download(self, dataset_kwargs: dict[str, Any] | None = None) -> None:
        metadata = self.config.metadata
        documents = scene_documents(metadata["varied"])[metadata["kind"]]
        self.dataset = datasets.DatasetDict({"test": documents})
        self.dataset_no_image = datasets.DatasetDict({"test": documents.remove_columns("image")})


def doc_to_visual(doc: dict[str, Any]) -> list[Any]:
    return [doc["image"].convert("RGB")]
