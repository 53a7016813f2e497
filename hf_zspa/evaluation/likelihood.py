"""The lmms-eval model `hf_zspa` for tasks that ask how likely given answers are (`--force_simple`)."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from lmms_eval.api.instance import GenerationResult, Instance
from lmms_eval.api.task import ConfigurableMessagesTask
from loguru import logger
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList

from .counting import CountingPruner, token_summary
from .lmms_model import HfZspa
from .requests import Batch, Sample


class Likelihood(NamedTuple):
    """How likely an answer is: the mean negative log-likelihood of its tokens, and whether each was the likeliest."""

    loss: float
    greedy: bool

    def strip(self) -> str:
        """Nothing, which lmms-eval's cache of responses (`--use_cache`) does not keep: it would give back what its
        multiple choice cannot read."""
        return ""


class HfZspaLikelihood(HfZspa):
    """`HfZspa` for lmms-eval's tasks of the kind `multiple_choice`, scored by `acc`.

    lmms-eval gives these only to models that do not chat. The question goes through the chat template all the same,
    images first, and the given answer follows it. What prunes sees the question, never the answer. Takes the arguments
    of `HfZspa`.
    """

    is_simple = True

    def generate_until(self, requests: list[Instance]) -> list[str]:
        """The answer to each request, as `HfZspa` has it."""
        return super().generate_until([self._as_chat(request) for request in requests])

    def loglikelihood(self, requests: list[Instance]) -> list[GenerationResult]:
        """For each request, as `text`, the `Likelihood` of its given answer, in nats per token.

        The loss, against the name: lmms-eval's multiple choice takes the answer with the *smallest* number, because its
        own models return the loss. And in a `GenerationResult`, because lmms-eval 0.7 makes a string of a bare pair,
        which its multiple choice then cannot read.

        Raises:
            ValueError: the task wants what lmms-eval 0.7 does not score right, or `on_error` is "count": where all
                answers to a question fail, the first would be taken, which may be the right one.
        """
        if self.on_error != "raise":
            raise ValueError(f"on_error is {self.on_error!r}, but must be 'raise' for tasks about given answers")
        if any(len(request.args) != 6 or callable(request.args[1]) for request in requests):
            raise ValueError(
                "hf_zspa has the likelihood of answers for tasks of multiple_choice, scored by acc; this one is of "
                "another kind, or scored by acc_mutual_info"
            )
        self.expected = len(requests)
        found: dict[int, GenerationResult] = {}
        order = sorted(range(len(requests)), key=lambda index: -len(requests[index].args[0]))
        for start in range(0, len(order), self.batch_size):
            chosen = order[start : start + self.batch_size]
            batch = Batch([self._asked(index, requests[index]) for index in chosen], {})
            likelihoods, records = self._guarded(batch, self._likelihoods, lambda reason: None)
            for sample, likelihood, record in zip(batch.samples, likelihoods, records):
                found[sample.index] = GenerationResult(likelihood)
                self._remember(sample, record)
        logger.info("hf_zspa, method {}: {}", self.method, token_summary(self.records))
        return [found[index] for index in range(len(requests))]

    @torch.inference_mode()
    def _likelihoods(self, batch: Batch, counter: CountingPruner) -> list[Likelihood]:
        with self.clock("inputs"):
            inputs = self._inputs(batch.samples, counter)
        led = Led([self._given_tokens(sample) for sample in batch.samples])
        with self.clock("prefill"):
            self.model.generate(
                **inputs, **self._pruning(counter), do_sample=False, temperature=None, top_p=None, top_k=None,
                num_beams=1, repetition_penalty=1.0, max_new_tokens=led.steps,
                logits_processor=LogitsProcessorList([led]),
            )  # fmt: skip
        return led.likelihoods()

    def _given_tokens(self, sample: Sample) -> list[int]:
        """Those that the given answer adds to its prompt. A space before it is dropped where the prompt ends in one."""
        tokenizer, prompt = self.processor.tokenizer, self._prompt(sample)
        given = sample.given.lstrip() if prompt[-1:].isspace() else sample.given
        before, whole = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in (prompt, prompt + given))
        tokens = whole[len(before) :]
        if whole[: len(before)] != before:  # the two touch within a token
            tokens = tokenizer(given, add_special_tokens=False)["input_ids"]
        if not tokens:
            raise ValueError("the answer whose likelihood is asked for is empty")
        return tokens

    def _asked(self, index: int, request: Instance) -> Sample:
        context, given, to_visual, doc_id, task, split = request.args

        def read() -> Any:
            return self._messages(_user_turn(to_visual(self.task_dict[task][split][doc_id]), context))

        padding = bool(request.metadata.get("__padding_only__"))
        return Sample(index, task, split, doc_id, read, (context, given), padding, given)

    def _as_chat(self, request: Instance) -> Instance:
        """The request as models that chat get it."""
        context, arguments, to_visual, *place = request.args

        def to_messages(document: Any) -> Any:
            return _user_turn(to_visual(document), context)

        chat = (context, to_messages, arguments, *place)
        return Instance(request.request_type, chat, request.idx, request.metadata)


class Led(LogitsProcessor):
    """Leads `generate` along given answers, and notes how likely each of their tokens was.

    Args:
        answers: the tokens of an answer for each row.
    """

    def __init__(self, answers: Sequence[Sequence[int]]):
        self.answers = answers
        self.steps = max(len(answer) for answer in answers)
        self._step = 0
        self._loss = [0.0] * len(answers)
        self._greedy = [True] * len(answers)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Leaves of `scores` `(rows, vocabulary)` the given token of each row alone; a row that is through repeats its
        last."""
        log_probabilities = scores.float().log_softmax(-1)
        led = torch.full_like(scores, -torch.inf)
        for row, answer in enumerate(self.answers):
            token = answer[min(self._step, len(answer) - 1)]
            led[row, token] = 0
            if self._step < len(answer):
                self._loss[row] -= float(log_probabilities[row, token])
                self._greedy[row] &= int(scores[row].argmax()) == token
        self._step += 1
        return led

    def likelihoods(self) -> list[Likelihood]:
        """One per answer."""
        lengths = [len(answer) for answer in self.answers]
        return [Likelihood(loss / n, greedy) for loss, n, greedy in zip(self._loss, lengths, self._greedy)]


def _user_turn(visuals: Any, text: str) -> Any:
    return ConfigurableMessagesTask._build_user_turn(visuals, text)
