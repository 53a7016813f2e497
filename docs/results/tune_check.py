"""Does `hf-zspa tune` keep its word on the embedded models? It tunes on some rows and is judged on others.

Every row is a question about a held-out scene of its own. All are measured once under every candidate; a draw takes
some of them to tune on, and on the others the share of whole answers that stay is looked up. About half an hour on one
core; `--work` keeps the measurements, and a second run goes on from them.
"""

import argparse
import functools
import itertools
import json
import platform
import random
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from PIL import Image

from hf_zspa.evaluation.statistics import paired_difference
from hf_zspa.loading import load_zspa
from hf_zspa.scenes.domains import PHOTOGRAPHS, SCENES, VARIED_SCENES, Domain
from hf_zspa.scenes.heldout import scene_questions
from hf_zspa.tuning.candidates import Setting, setting, with_own
from hf_zspa.tuning.choice import check_rows
from hf_zspa.tuning.rows import Measured, Rows
from hf_zspa.tuning.tune import conclude

MODELS = {"embedded": SCENES, "embedded-qwen": VARIED_SCENES, "embedded-photo": PHOTOGRAPHS}
ROWS = 2200
# What is tuned: of which kinds the questions are, on how many rows, for which agreement.
SCENE_CASES = (("all", 200, 0.9), ("reading", 200, 0.9), ("reading", 300, 0.98))
PAGES = ("next", "line")  # what is asked about pages of words
PAGE_CASES = (("all", 200, 0.9), ("all", 300, 0.98))
FIRST_SEED = 1_000_000  # far from the scenes of the tables
TIMED = 20  # rows
# Some of the candidates that are tried by default, so that a run takes minutes and not hours; of every method one.
SETTINGS = (
    setting("zspa"),
    setting("zspa", core_ratio=0.0),
    setting("weighted", pooling="none"),
    setting("weighted"),
    setting("dpp", pooling="none"),
    setting("dpp", relevance_weight=1.0),
    setting("mmtok"),
)
KEEP_RATIOS = [0.05, 0.1, 0.15, 0.25]


def questions(domain: Domain) -> Iterator[tuple[Image.Image, str, str]]:
    """Picture, question and its kind: any about scenes, those about pages of photographs; one about each picture."""
    for seed in itertools.count(FIRST_SEED):
        scene, asked = scene_questions(seed, domain=domain)
        of = [question for question in asked if domain is not PHOTOGRAPHS or question.kind in PAGES]
        if of:
            question = random.Random(seed).choice(of)
            yield Image.fromarray(scene.image), question.text, question.kind


def check(name: str, draws: int, folder: Path) -> dict[str, Any]:
    model, processor = load_zspa(name)
    settings, count = with_own(SETTINGS, model.config), ROWS
    asked = list(itertools.islice(questions(MODELS[name]), count))
    done = itertools.count(1)

    def say() -> None:
        if (number := next(done)) % 100 == 0:
            print(f"{name}: {number} of {count} rows", flush=True)

    folder.mkdir(parents=True, exist_ok=True)
    rows = [row[:2] for row in asked]
    measured = Rows(model, processor, 8, 8, folder).measure(rows, settings, KEEP_RATIOS, say)
    cases = []
    for kind, tuned_on, agreement in PAGE_CASES if MODELS[name] is PHOTOGRAPHS else SCENE_CASES:
        mine = measured.of([row for row, (*_, its) in enumerate(asked) if kind in ("all", its)])
        about = {"kind": kind, "tuned_on": tuned_on, "agreement": agreement}
        cases.append(about | of_draws(mine, settings, tuned_on, agreement, draws))
    clock = Clock(model)
    start = time.process_time()
    Rows(model, processor, 8, 8, None).measure(rows[:TIMED], settings, KEEP_RATIOS, lambda: None)
    took = time.process_time() - start
    times = {"per_row": took / TIMED, "times_the_forwards": took / clock.seconds}
    return {"rows": count, "cases": cases, "seconds": times}


def of_draws(
    measured: Measured, settings: list[Setting], tuned_on: int, agreement: float, draws: int
) -> dict[str, Any]:
    """Tunes on several draws of rows, and looks each choice up on the others."""
    count = len(measured.tokens)
    choices: Counter[str] = Counter()
    shares, of_chosen, to_own = [], [], []
    for seed in range(draws):
        order = random.Random(seed).sample(range(count), count)
        mine, others = order[:tuned_on], order[tuned_on:]
        chosen = conclude(measured.of(mine), KEEP_RATIOS, settings, agreement).chosen
        if chosen is None:
            choices["nothing"] += 1
            shares.append(1.0)  # without pruning all answers stay
            continue
        choices[f"{KEEP_RATIOS[chosen.keep_ratio]:g}, {settings[chosen.setting]}"] += 1
        whole = measured.whole[chosen.keep_ratio][:, others]
        shares.append(float(whole[chosen.setting].mean()))
        of_chosen.append(shares[-1])
        to_own.append(paired_difference(whole[chosen.setting][:, None], whole[0][:, None], _mean))
    return {
        "others": count - tuned_on, "draws": draws,
        "reached": sum(share >= agreement for share in shares), "least": round(min(shares), 4),
        "chose": len(of_chosen), "chose_and_reached": sum(share >= agreement for share in of_chosen),
        "choices": dict(choices.most_common()),
        "own_clearly_better": sum(each.high < 0 for each in to_own),
        "own_clearly_worse": sum(each.low > 0 for each in to_own),
        "least_gain_over_own": round(min(each.value for each in to_own), 2) if to_own else None,
        "gain_over_own": round(float(np.mean([each.value for each in to_own])), 2) if to_own else None,
        "whole_answers": {
            f"{ratio:g}": {str(each): round(float(share), 4) for each, share in zip(settings, of_ratio)}
            for ratio, of_ratio in zip(KEEP_RATIOS, measured.whole.mean(-1))
        },
    }  # fmt: skip


def _mean(rows: np.ndarray) -> Any:
    """Of `(..., n, 1)`, in per cent."""
    return 100 * rows[..., 0].mean(-1)


class Clock:
    """Counts the CPU seconds that a model spends in its forward passes and its encoder."""

    def __init__(self, model: Any):
        self.seconds, self.depth = 0.0, 0
        for module in (model, model.model):
            for name in ("forward", "get_image_features"):
                if hasattr(module, name):
                    setattr(module, name, self._timed(getattr(module, name)))

    def _timed(self, function: Any) -> Any:
        @functools.wraps(function)  # transformers reads its signature
        def timed(*args: Any, **kwargs: Any) -> Any:
            start, self.depth = time.process_time(), self.depth + 1
            try:
                return function(*args, **kwargs)
            finally:
                self.depth -= 1
                self.seconds += 0 if self.depth else time.process_time() - start

        return timed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=[*MODELS])
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--work", type=Path, default=Path("build/tune-check"))
    parser.add_argument("--output", type=Path, default=Path("docs/results/tune-check.json"))
    args = parser.parse_args()
    try:
        check_rows(0.98, range(100), "--agreement")
    except ValueError as error:
        few = str(error)
    found = {name: check(name, args.draws, args.work / name) for name in args.models}
    where = f"{platform.machine()} CPU, one thread; torch {torch.__version__}, transformers {transformers.__version__}"
    content = {"where": where, "date": time.strftime("%Y-%m-%d"), "too_few": few, "models": found}
    args.output.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
