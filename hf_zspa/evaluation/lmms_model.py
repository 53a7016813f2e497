"""The lmms-eval model `hf_zspa`: any checkpoint, converted or not, that says how many visual tokens it really kept."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from lmms_eval.api.instance import Instance
from lmms_eval.api.model import lmms
from lmms_eval.protocol import ChatMessages
from loguru import logger

from ..checkpoints.base import is_converted, read_config
from ..checkpoints.families import FAMILIES
from ..checkpoints.resolve import checkpoint_folder
from ..checkpoints.verify import check_code
from ..pruners.registry import check_method, make_pruner, unread
from .counting import CountingPruner, SampleRecord, token_summary
from .fitting import check_fit
from .loading import Settings, load
from .requests import FAILED, Batch, Sample, SampleError, batches_of, generation_arguments, until_stops
from .resizing import Resizer, pooled, scales_by_area
from .stages import StageClock

_OVERRIDES = ("prompt_scope", "position_ids")


class HfZspa(lmms):
    """A Hugging Face checkpoint under lmms-eval, by its own processor and chat template.

    Args:
        pretrained: folder or Hub id of a checkpoint, `embedded`, `embedded-qwen` or `embedded-photo`.
        batch_size: prompts answered at once, padded on the left.
        device: such as "cuda:0" or "cpu"; the GPU where there is one.
        device_map: transformers' own; "auto" spreads a model over all GPUs.
        dtype: "auto" (as stored), "float32", "bfloat16" or "float16".
        attn_implementation: transformers' own, such as "sdpa".
        revision: branch, tag or commit of a Hub id.
        zspa_method: one of `METHODS`; by default what the checkpoint does.
        zspa_keep_ratio: share of visual tokens kept; by default the checkpoint's.
        zspa_core_ratio: share of those chosen by relevance; by default the checkpoint's.
        zspa_relevance_weight: in place of the checkpoint's field of this name.
        zspa_pooling: likewise.
        zspa_centre: likewise.
        zspa_prompt_scope: likewise.
        zspa_position_ids: likewise.
        zspa_seed: what the method "random" draws from, 0 by default.
        min_pixels: smallest area of an image, for processors that scale by area.
        max_pixels: largest area.
        system_prompt: a system turn before each question.
        on_error: "raise" stops with the sample's id, "count" marks the sample as failed and goes on. `hf-zspa eval`
            counts it as wrong; lmms-eval's own command scores the mark as an answer.
        trust_remote_code: run the checkpoint's code whatever it is; else only if it is that of this package.
        log_tokens: a file that gets one line of JSON per sample: visual tokens, tokens kept, failure.

    Raises:
        ValueError: an argument is unknown or not allowed; the message names it and what to use instead.
    """

    is_simple = False

    def __init__(
        self,
        pretrained: str,
        batch_size: int | str = 1,
        device: str | None = None,
        device_map: str | None = None,
        dtype: str = "auto",
        attn_implementation: str | None = None,
        revision: str | None = None,
        zspa_method: str | None = None,
        zspa_keep_ratio: float | None = None,
        zspa_core_ratio: float | None = None,
        zspa_relevance_weight: float | None = None,
        zspa_pooling: str | None = None,
        zspa_centre: bool | None = None,
        zspa_prompt_scope: str | None = None,
        zspa_position_ids: str | None = None,
        zspa_seed: int | None = None,
        min_pixels: int | None = None,
        max_pixels: int | None = None,
        system_prompt: str | None = None,
        on_error: str = "raise",
        log_tokens: str | None = None,
        trust_remote_code: bool = False,
        max_batch_size: int | None = None,
        **unknown: Any,
    ) -> None:
        super().__init__()
        if unknown:
            known = ", ".join(name for name in HfZspa.__init__.__annotations__ if name not in ("unknown", "return"))
            raise ValueError(f"hf_zspa knows no model argument {', '.join(unknown)}: choose from {known}")
        if on_error not in ("raise", "count"):
            raise ValueError(f"on_error is {on_error!r}, but must be 'raise' or 'count'")
        if not str(batch_size).isdigit() or int(batch_size) < 1:
            raise ValueError(f"batch_size is {batch_size!r}, but must be a whole number from 1")
        self.batch_size = int(batch_size)
        self.accelerator = Accelerator()
        self._rank, self._world_size = self.accelerator.process_index, self.accelerator.num_processes
        if device is None and self._world_size > 1:
            device = str(self.accelerator.device)
        self.folder = checkpoint_folder(pretrained, revision)
        self.converted = is_converted(read_config(self.folder))
        if self.converted and not trust_remote_code:
            check_code(self.folder, pretrained)
        self.settings = Settings(device, device_map, dtype, attn_implementation, min_pixels, max_pixels)
        # In a tuple, out of reach of lmms.clean(), which would end a sweep after its first cell.
        self._parts = load(self.folder, self.converted, self.settings)
        self.clock = StageClock(self.model)
        self._stock_fields = {name: getattr(self.model.config, f"zspa_{name}", None) for name in _OVERRIDES}
        self.pretrained, self.on_error, self.log_tokens = pretrained, on_error, log_tokens
        self.system_prompt = self._resolve_system_prompt(system_prompt) if system_prompt else None
        self.on_sample: Callable[[SampleRecord], None] | None = None
        self.expected = 0  # requests of the run that goes on
        if log_tokens and self._world_size > 1:
            self.log_tokens = f"{log_tokens}.{self._rank}"
        self.use_method(
            zspa_method,
            keep_ratio=zspa_keep_ratio,
            core_ratio=zspa_core_ratio,
            seed=zspa_seed,
            relevance_weight=zspa_relevance_weight,
            pooling=zspa_pooling,
            centre=zspa_centre,
            prompt_scope=zspa_prompt_scope,
            position_ids=zspa_position_ids,
        )

    @property
    def model(self) -> Any:
        return self._parts[0]

    @property
    def device(self) -> torch.device:
        return self.model.device

    @property
    def processor(self) -> Any:
        return self._parts[1]

    def use_method(
        self,
        method: str | None,
        *,
        keep_ratio: float | None = None,
        seed: int | None = None,
        **fields: Any,
    ) -> None:
        """Sets what prunes from now on, and forgets the records and times; None stands for what the checkpoint says.

        Args:
            method: one of `METHODS`; None is what a converted checkpoint says, and "original" for another.
            seed: what "random" draws from; None is 0.
            fields: core_ratio, relevance_weight, pooling, centre, prompt_scope, position_ids.

        Raises:
            ValueError: the checkpoint does not prune, or the method is unknown, does not read a setting or cannot be
                measured on this model.
        """
        given = {"keep_ratio": keep_ratio, "seed": seed, **fields}
        if not self.converted:
            if method not in (None, "original") or any(value is not None for value in given.values()):
                raise ValueError(
                    f"{self.pretrained} does not prune: make a checkpoint that does with "
                    f"hf-zspa convert {self.pretrained} OUT, and evaluate OUT"
                )
            method = "original"
        method = method or self.model.config.zspa_method
        record = check_method(method)
        if wrong := unread(given, [method]):
            names = ", ".join(f"zspa_{name}" for name in wrong)
            raise ValueError(f"the method {method!r} does not read {names}: leave it out")
        check_fit(method, self.model, self.processor)
        self.resizer: Resizer | None = None
        if method == "resized" and "compact" in self.model.config.allowed_position_ids:
            fields["position_ids"] = fields.get("position_ids") or "compact"  # what is left is an image as any other
        for name in _OVERRIDES if self.converted else ():
            value = fields.get(name)
            setattr(self.model.config, f"zspa_{name}", self._stock_fields[name] if value is None else value)
        self.method, self.pruner = method, None
        if self.converted:
            config = self.model.config
            keep = config.zspa_keep_ratio if keep_ratio is None else keep_ratio
            if record.travels:  # the checkpoint's own code chooses
                settings = {name: fields.get(name) for name in record.reads if name not in _OVERRIDES} | {
                    **record.fixed
                }
                asked = {f"zspa_{name}": value for name, value in settings.items()}
                self.pruner = self.model.pruner_for_call(zspa_method=record.travels, zspa_keep_ratio=keep, **asked)
            elif method == "resized" and scales_by_area(self.processor):
                self.resizer = Resizer(self.processor, self.model.config, keep)
            elif method == "resized":
                self.pruner = pooled(self.model.config, keep) if keep < 1 else None
            else:
                self.pruner = make_pruner(self.method, keep_ratio=keep, seed=seed or 0)
        self.records: list[SampleRecord] = []
        self.clock.reset()

    def generate_until(self, requests: list[Instance]) -> list[str]:
        """The answer to each request; what stops an answer (`until`) is not part of it."""
        self.expected = len(requests)
        answers = [""] * len(requests)
        for batch in batches_of(requests, self.task_dict, self.batch_size, self._messages):
            found, records = self._guarded(batch, self._answers, lambda reason: f"{FAILED} {reason}")
            for sample, answer, record in zip(batch.samples, found, records):
                answers[sample.index] = answer
                self.cache_hook.add_partial("generate_until", sample.cache_key, answer)
                self._remember(sample, record)
        logger.info("hf_zspa, method {}: {}", self.method, token_summary(self.records))
        return answers

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        raise NotImplementedError(
            "lmms-eval gives models that chat no tasks about given answers: run it with --force_simple"
        )

    def generate_until_multi_round(self, requests: list[Instance]) -> list[str]:
        raise NotImplementedError("hf_zspa answers single-round tasks only")

    def _remember(self, sample: Sample, record: SampleRecord) -> None:
        if sample.padding:
            return
        self.records.append(record)
        if self.log_tokens:
            with Path(self.log_tokens).open("a", encoding="utf-8") as file:
                file.write(json.dumps({"method": self.method, **record.__dict__}) + "\n")
        if self.on_sample:
            self.on_sample(record)

    def _guarded(
        self, batch: Batch, answer: Callable[[Batch, CountingPruner], list[Any]], failed: Callable[[str], Any]
    ) -> tuple[list[Any], list[SampleRecord]]:
        """What `answer` has for a batch, and its records. After an exception the samples run one by one, so that the
        culprit is known; for it there is what `failed` makes of the reason.

        Raises:
            SampleError: a sample failed and `on_error` is "raise"; the message names it.
        """
        counter = CountingPruner(self.pruner, [sample.name for sample in batch.samples], self.clock)
        try:
            found = answer(batch, counter)
            return found, counter.records(batch.samples)
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            if len(batch.samples) == 1:
                (sample,) = batch.samples
                if self.on_error == "raise":
                    raise SampleError(f"{sample.name} failed: {reason}") from error
                logger.error("{} failed: {}", sample.name, reason)
                record = SampleRecord(sample.task, sample.split, sample.doc_id, 0, 0, reason)
                return [failed(reason)], [record]
        parts = [self._guarded(Batch([sample], batch.arguments), answer, failed) for sample in batch.samples]
        if not any(record.failed for _, records in parts for record in records):
            logger.warning("a batch of {} failed, its samples alone do not: {}", len(parts), reason)
        return [answer for answers, _ in parts for answer in answers], [r for _, records in parts for r in records]

    def _messages(self, messages: Any) -> ChatMessages:
        if self.system_prompt:
            messages = self._apply_system_prompt(messages, self.system_prompt)
        return ChatMessages(messages=messages)

    def _prompt(self, sample: Sample) -> str:
        if not getattr(self.processor, "chat_template", None):
            raise ValueError(f"{self.pretrained} has no chat template: save one with its processor")
        messages = sample.messages.to_hf_messages()
        return self.processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)

    def _inputs(self, samples: list[Sample], counter: CountingPruner | None = None) -> Any:
        """What the processor makes of the samples; the counter hears how many visual tokens they have."""
        texts = [self._prompt(sample) for sample in samples]
        media = [sample.messages.extract_media() for sample in samples]
        images = [image for found, _, _ in media for image in found]
        videos = [video for _, found, _ in media for video in found]
        if any(audio for *_, audio in media):
            raise ValueError("the sample has audio, which no supported model hears")

        def processed(processor: Any, images: list[Any]) -> Any:
            given, left = images, iter(images)
            if getattr(FAMILIES.get(self.model.config.model_type), "images_by_prompt", False):
                given = [[next(left) for _ in found] for found, _, _ in media]
            visual = ({"images": given} if images else {}) | ({"videos": videos} if videos else {})
            return processor(text=texts, padding=True, return_tensors="pt", **visual)

        if videos and self.method == "resized":
            raise ValueError("the sample has a video, which 'resized' does not know")
        inputs, resized = processed(self.processor, images), None
        full = inputs["input_ids"]
        if self.resizer and images:
            inputs = processed(self.resizer.processor, self.resizer(images, inputs))
            resized = inputs["input_ids"]
        if counter:
            counter.expect(full, self.model.config, resized)
        return inputs.to(self.model.device, self.model.dtype)

    @torch.inference_mode()
    def _answers(self, batch: Batch, counter: CountingPruner) -> list[str]:
        with self.clock("inputs"):
            inputs = self._inputs(batch.samples, counter)
        arguments, until = generation_arguments(batch.arguments)
        with self.clock("prefill"):
            output = self.model.generate(**inputs, **arguments, **self._pruning(counter))
        answers = output[:, inputs["input_ids"].shape[1] :]
        texts = self.processor.batch_decode(answers, skip_special_tokens=True)
        return [until_stops(text.strip(), until) for text in texts]

    def _pruning(self, counter: CountingPruner) -> dict[str, Any]:
        """What makes the model prune in a call, with every token counted."""
        if self.pruner is not None and counter.sees_images:
            return {"visual_token_pruner": counter}
        return {"zspa_keep_ratio": 1.0} if self.converted else {}
