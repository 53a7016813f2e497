"""Where the time of an answer goes: inputs, vision tower, selection, prefill, decoding."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

STAGES = ("inputs", "vision", "selection", "prefill", "decode")


class StageClock:
    """Adds up what the stages of many answers take; a stage that begins inside another one is not counted twice.

    "inputs" is reading pictures, the processor and the way to the device, "vision" the encoder with its projector,
    "prefill" the decoder's first pass with all that `generate` does before it, "decode" what comes after.

    Args:
        model: the loaded model. Its encoder, its projector and its decoder are watched by forward hooks.

    Attributes:
        seconds: per stage, on the wall clock; on a GPU what has been asked for is waited for at each change.
    """

    def __init__(self, model: Any):
        self.device: torch.device = model.device
        self._stage: str | None = None
        self._since = 0.0
        self._outside: list[str | None] = []  # the stages that the encoder was called in
        self.reset()
        decoder = model.get_decoder()
        self._hooks = [decoder.register_forward_hook(self._decoder_was_run)]
        for part in model.model.children():
            if part is not decoder:
                self._hooks += [
                    part.register_forward_pre_hook(self._vision_begins),
                    part.register_forward_hook(self._vision_ends, always_call=True),
                ]

    def reset(self) -> None:
        """Forgets what was added up."""
        self.seconds = dict.fromkeys(STAGES, 0.0)

    def remove(self) -> None:
        """Leaves the model as it was."""
        for hook in self._hooks:
            hook.remove()

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """A part of the way that belongs to this stage, but for the stages inside it."""
        before = self._switch(stage)
        try:
            yield
        finally:
            self._switch(before)

    def _decoder_was_run(self, *_: Any) -> None:
        if self._stage == "prefill":
            self._switch("decode")

    def _vision_begins(self, *_: Any) -> None:
        self._outside.append(self._switch("vision"))

    def _vision_ends(self, *_: Any) -> None:
        self._switch(self._outside.pop())

    def _switch(self, stage: str | None) -> str | None:
        """From here on it is this stage; returns the one before."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        now, before = time.perf_counter(), self._stage
        if before is not None:
            self.seconds[before] += now - self._since
        self._stage, self._since = stage, now
        return before
