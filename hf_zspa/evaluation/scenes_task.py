"""The embedded benchmark: held-out questions of the embedded models as lmms-eval tasks, drawn from seeds.

`zspa_scenes` asks about scenes of one size, `zspa_scenes_varied` about scenes of many, for models that take any, and
`zspa_scenes_photo` about synthetic photographs. Each is a group with one task per kind of question:
`zspa_scenes_reading` and so on. An answer is right when it is the expected word.
"""

from functools import lru_cache
from typing import Any

import datasets
from lmms_eval.api.task import ConfigurableMessagesTask

from ..scenes.domains import DOMAINS
from ..scenes.heldout import HeldOut, collect

QUESTIONS = 500  # of each kind


@lru_cache
def held_out(domain: str) -> HeldOut:
    return collect(QUESTIONS, domain=DOMAINS[domain])


@lru_cache
def scene_documents(domain: str, kind: str) -> datasets.Dataset:
    """The questions of a kind: image, question, answer."""
    drawn = held_out(domain)
    asked = [(drawn.images[image], question) for image, question in drawn.questions if question.kind == kind]
    columns = {
        "image": [image for image, _ in asked],
        "question": [question.text for _, question in asked],
        "answer": [question.answer for _, question in asked],
    }
    texts = {name: datasets.Value("string") for name in ("question", "answer")}
    return datasets.Dataset.from_dict(columns, features=datasets.Features({"image": datasets.Image(), **texts}))


class ScenesTask(ConfigurableMessagesTask):
    """A kind of question; `metadata.kind` and `metadata.domain` of its file say which."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(config={key: value for key, value in config.items() if key != "class"})

    def download(self, dataset_kwargs: dict[str, Any] | None = None) -> None:
        metadata = self.config.metadata
        documents = scene_documents(metadata["domain"], metadata["kind"])
        self.dataset = datasets.DatasetDict({"test": documents})
        self.dataset_no_image = datasets.DatasetDict({"test": documents.remove_columns("image")})


def doc_to_visual(doc: dict[str, Any]) -> list[Any]:
    return [doc["image"].convert("RGB")]
