"""Train an embedded model from scratch: `python -m hf_zspa.scenes.training.train --output DIR [--family qwen2_5_vl]`.

Stage A aligns visual tokens with word embeddings, stage B teaches question answering. Each step
computes in bfloat16 and updates float32 master weights. No visual token is ever dropped in
training, because checkpoints that people prune were not trained that way either.
"""

import argparse
import math
import os
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

from .batches import SceneBatches
from .export import export_checkpoint
from .families import FAMILIES, Family
from .trainer import Trainer


def cosine_rate(step: int, steps: int, peak: float) -> float:
    """Learning rate: 3 % warm-up, then a cosine down to 3 % of the peak."""
    share = step / steps
    return peak * min(1.0, (share + 1e-3) / 0.03) * (0.03 + 0.97 * 0.5 * (1 + math.cos(math.pi * share)))


def held_rate(step: int, steps: int, peak: float) -> float:
    """Learning rate: 30 steps of warm-up, then the peak, in the last quarter straight down to 3 % of it.

    Before that quarter it does not depend on `steps`: a run that has not come there can be prolonged.
    """
    return peak * min(1.0, (step + 1) / 30, 0.03 + 0.97 * (1 - step / steps) / 0.25)


def lower_worker_priority(_: int) -> None:
    """The data worker yields to everything else on the machine."""
    os.nice(5)


def train(
    family: Family,
    *,
    align_steps: int,
    answer_steps: int,
    images: int = 16,
    questions: int = 8,
    align_rate: float = 2e-3,
    answer_rate: float = 1.5e-3,
    vision_scale: float = 0.3,
    seed: int = 0,
    dtype: torch.dtype = torch.bfloat16,
    log_every: int = 100,
    workers: int = 1,
    state: Path | None = None,
    hold: bool = False,
    read_early: bool = False,
) -> Trainer:
    """Run both stages and return the trainer, whose `weights()` are the result.

    `hold` says that stage B has `held_rate`; `read_early`, that an answer is read after the layer that points to it as
    well as at the end. With a file `state` a run goes on from what the last one with this file wrote there.
    """
    trainer = Trainer(family, seed, dtype, read_early)
    steps = align_steps + answer_steps
    begin = trainer.restore(torch.load(state)) if state and state.exists() else 0
    batches = DataLoader(
        SceneBatches(family, steps, images, questions, seed, begin),
        batch_size=None,
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        worker_init_fn=lower_worker_priority,
    )
    history: dict[str, list[float]] = defaultdict(list)
    started = stage_started = time.monotonic()
    for step, batch in enumerate(batches, begin):
        if step == align_steps:
            trainer.start_answering()
            stage_started = time.monotonic()
        if step < align_steps:
            _, loss, log = trainer.align(batch)
            rate = cosine_rate(step, align_steps, align_rate)
            trainer.update(loss, rate, rate)
        else:
            loss, log = trainer.answer(batch)
            rate = (held_rate if hold else cosine_rate)(step - align_steps, answer_steps, answer_rate)
            trainer.update(loss, rate, vision_scale * rate)
        for name, value in log.items():
            history[name].append(value)
        if (step + 1) % log_every == 0 or step + 1 == steps:
            name, first, last = ("A", 0, align_steps) if step < align_steps else ("B", align_steps, steps)
            pace = (time.monotonic() - stage_started) / (step + 1 - max(first, begin))
            print(
                f"{name} {step + 1}/{last}  {(time.monotonic() - started) / 60:.1f} min,"
                f" {pace * (last - step - 1) / 60:.0f} left in this stage  {_means(history)}",
                flush=True,
            )
            history.clear()
            if state:
                _save(trainer.state(step + 1), state)
    return trainer


def _save(state: dict[str, Any], path: Path) -> None:
    beside = path.with_suffix(".part")
    torch.save(state, beside)
    beside.replace(path)


def _means(history: dict[str, list[float]]) -> str:
    return "  ".join(f"{name} {sum(values) / len(values):.3f}" for name, values in history.items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True, help="folder for the checkpoint")
    parser.add_argument("--family", choices=FAMILIES, default="llava")
    parser.add_argument("--align-steps", type=int, default=800)
    parser.add_argument("--answer-steps", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--vision-scale", type=float, default=0.3)
    parser.add_argument("--answer-rate", type=float, default=1.5e-3)
    parser.add_argument("--log-every", type=int, default=100)
    parser.add_argument("--images", type=int, default=16, help="images of a step")
    parser.add_argument("--questions", type=int, default=8, help="questions about each")
    parser.add_argument("--dtype", choices=("bfloat16", "float32"), default="bfloat16", help="what a step computes in")
    parser.add_argument("--hold", action="store_true", help="keep the rate of stage B up until its last quarter")
    parser.add_argument("--read-early", action="store_true", help="read answers after the layer that points, too")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--state", type=Path, help="file that a run which was stopped goes on from")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    family = FAMILIES[options.family]
    trainer = train(
        family,
        align_steps=options.align_steps,
        answer_steps=options.answer_steps,
        seed=options.seed,
        vision_scale=options.vision_scale,
        answer_rate=options.answer_rate,
        log_every=options.log_every,
        images=options.images,
        questions=options.questions,
        dtype=getattr(torch, options.dtype),
        state=options.state,
        hold=options.hold,
        read_early=options.read_early,
    )
    export_checkpoint(family, trainer.weights(), options.output)


if __name__ == "__main__":
    main()
