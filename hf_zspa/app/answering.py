"""A checkpoint that is asked by several people: a question is encoded once, however often its tokens are chosen."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor
from transformers import StoppingCriteriaList, TextIteratorStreamer

from ..checkpoints.shipped import SHIPPED
from ..loading import FirstTokenClock, load_zspa, question_inputs, usable_device
from ..models.given import check_dtype, check_prompt, open_image
from ..visualize.demo import Answer, check_words
from ..visualize.panels import enlarged
from ..visualize.selection import Selection, explain_tokens
from ..visualize.token_grid import View, token_views

REMEMBERED = 8  # questions whose features stay in memory
NEW_TOKENS = 256  # of an answer, at most


@dataclass(frozen=True)
class Question:
    """A question about a picture as the model has encoded it.

    Attributes:
        visual: `(n, d)`, the visual tokens.
        prompt: `(m, d)`, the embeddings of the question.
        views: where the tokens lie in the picture.
    """

    visual: Tensor
    prompt: Tensor
    views: list[View]


class _Clock(FirstTokenClock):
    """Ends a generation that nobody waits for any more."""

    stopped = False

    def __call__(self, input_ids, scores, **kwargs):
        return super().__call__(input_ids, scores, **kwargs) | self.stopped


class Answering:
    """Model and processor of a checkpoint. One thread runs the model, for one question at a time.

    Attributes:
        name: what people call the checkpoint.
        small: it is one inside this package, which knows few words.

    Args:
        checkpoint: a zspa checkpoint: a folder, a Hub id or a name of one inside this package.
        trust_remote_code: run its code whatever it is; else only if it is that of this package.
        device: such as "cuda:0"; None is the GPU where there is one.
        dtype: "auto", "float32", "bfloat16" or "float16".

    Raises:
        ValueError: the checkpoint cannot be loaded, or not on this device or in this type.
    """

    def __init__(
        self, checkpoint: str, trust_remote_code: bool = False, *, device: str | None = None, dtype: str = "auto"
    ):
        check_dtype(dtype, "--dtype")
        where = usable_device(device, "--device")
        self.name = Path(checkpoint).resolve().name if Path(checkpoint).is_dir() else checkpoint
        self.small = checkpoint in SHIPPED
        self.model, self.processor = load_zspa(checkpoint, trust_remote_code, device=where, dtype=dtype)
        self._thread = ThreadPoolExecutor(1)
        self._remembered = lru_cache(REMEMBERED)(self._encode)
        blank = Image.new("RGB", (224, 224), "white")  # what runs for the first time is slow, and is not to be shown
        for settings in ({"zspa_keep_ratio": 1.0}, {}):
            list(self._generate(question_inputs(self.model, self.processor, blank, "what?"), 0, 2, settings))

    def question(self, picture: str, text: str) -> Question:
        """A question about the picture in a file whose name stands for its content; it is encoded if it is not among
        the latest that were asked.

        Raises:
            ValueError: the picture cannot be used, or the question not be asked.
        """
        return self._remembered(picture, text)

    def select(self, question: Question, **settings: Any) -> Selection:
        """What is kept; settings and errors are those of `explain`."""
        return explain_tokens(self.model, question.visual, question.prompt, **settings)

    def answer(self, picture: str, text: str, tokens: int, **settings: Any) -> Iterator[Answer]:
        """The greedy answer as it grows; its total time is 0 until it is whole. The vision tower's time is in it.

        Args:
            tokens: the visual tokens that it is from, which `select` has counted.
        """
        asked = {f"zspa_{name}": value for name, value in settings.items()}
        return self._generate(self._inputs(picture, text)[1], tokens, NEW_TOKENS, asked)

    def _inputs(self, picture: str, text: str) -> tuple[Image.Image, Any]:
        check_prompt(text, "the question")
        image = open_image(picture)
        if self.small:
            check_words(self.processor.tokenizer, text)
        return image, question_inputs(self.model, self.processor, image, text)

    def _encode(self, picture: str, text: str) -> Question:
        image, inputs = self._inputs(picture, text)
        (visual,), (prompt,) = self._thread.submit(self.model.visual_and_prompt_tokens, **inputs).result()
        views = token_views(self.model, self.processor, inputs, image, len(visual))
        return Question(visual, prompt, [replace(view, image=enlarged(view)) for view in views])

    def _generate(self, inputs, tokens: int, new_tokens: int, settings: dict[str, Any]) -> Iterator[Answer]:
        streamer = TextIteratorStreamer(self.processor.tokenizer, skip_prompt=True, skip_special_tokens=True)
        clock = _Clock(self.model.device)

        def run() -> Answer:
            clock.start = time.perf_counter()  # it may have waited for others until here
            try:
                ids = self.model.generate(
                    **inputs, **settings, streamer=streamer, stopping_criteria=StoppingCriteriaList([clock]),
                    do_sample=False, max_new_tokens=new_tokens,
                )  # fmt: skip
                total = clock.now()
            finally:
                streamer.end()
            text = self.processor.decode(ids[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
            return Answer(text.strip(), tokens, clock.first_token, total)

        whole, said = self._thread.submit(run), ""
        try:
            for piece in streamer:
                said += piece
                yield Answer(said.strip(), tokens, clock.first_token, 0.0)
            yield whole.result()
        finally:
            clock.stopped = True
