"""Does `hf-zspa tune` keep its word on the embedded models? It tunes on some rows and is judged on others.

Every row is a question about a held-out scene of its own. All are measured once under every candidate; a draw takes 200
of them to tune on, and the others are those on which the share of whole answers that stay is looked up.
"""

import argparse
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
from hf_zspa.scenes.domains import SCENES, VARIED_SCENES, Domain
from hf_zspa.scenes.heldout import scene_questions
from hf_zspa.tuning.candidates import Setting, setting, with_own
from hf_zspa.tuning.choice import check_rows, halves, judge
from hf_zspa.tuning.rows import Measured, Rows

DOMAINS = {"embedded": SCENES, "embedded-qwen": VARIED_SCENES}
FIRST_SEED = 1_000_000  # far from the scenes of the tables
# Some of the default candidates, so that a run takes minutes and not hours.
SETTINGS = (
    setting("zspa"),
    setting("zspa", core_ratio=0.0),
    setting("weighted", pooling="none"),
    setting("weighted"),
    setting("dpp", pooling="none"),
    setting("dpp", relevance_weight=1.0),
)
KEEP_RATIOS = (0.05, 0.1, 0.15, 0.25)
TUNED_ON = 200


def questions(domain: Domain) -> Iterator[tuple[Image.Image, str]]:
    """One about each scene, of any kind."""
    for seed in itertools.count(FIRST_SEED):
        scene, asked = scene_questions(seed, domain=domain)
        yield Image.fromarray(scene.image), random.Random(seed).choice([each.text for each in asked])


def draw(measured: Measured, agreement: float, seed: int) -> dict[str, Any]:
    """Tunes on some rows, and looks the choice up on the others."""
    order = random.Random(seed).sample(range(len(measured.tokens)), len(measured.tokens))
    mine, others = order[:TUNED_ON], order[TUNED_ON:]
    check_rows(agreement, mine)
    choosing, judging = ([mine[i] for i in half] for half in halves(mine))
    judged = judge(measured.whole, measured.kl, choosing, judging, agreement)
    chosen = next((each for each in judged if each.reaches), None)
    if chosen is None:
        return {"chosen": None, "share": 1.0, "others": len(others)}
    whole = measured.whole[chosen.keep_ratio]
    own = paired_difference(whole[chosen.setting, others][:, None], whole[0, others][:, None], _mean)
    return {
        "chosen": (chosen.keep_ratio, chosen.setting), "bound": chosen.bound, "others": len(others),
        "share": float(whole[chosen.setting, others].mean()), "to_default": [own.value, own.low, own.high],
    }  # fmt: skip


def _mean(rows: np.ndarray) -> Any:
    return 100 * rows[..., 0].mean(-1)


class Forwards:
    """Counts the CPU seconds that a model spends in its forward passes and its encoder."""

    def __init__(self, model: Any):
        self.seconds, self.depth = 0.0, 0
        for module in (model, model.model):
            for name in ("forward", "get_image_features"):
                if hasattr(module, name):
                    setattr(module, name, self._timed(getattr(module, name)))

    def _timed(self, function: Any) -> Any:
        def timed(*args: Any, **kwargs: Any) -> Any:
            start, self.depth = time.process_time(), self.depth + 1
            try:
                return function(*args, **kwargs)
            finally:
                self.depth -= 1
                self.seconds += 0 if self.depth else time.process_time() - start

        return timed


def measure(name: str, count: int, folder: Path, settings: list[Setting]) -> tuple[Any, Any, Measured]:
    model, processor = load_zspa(name)
    rows = list(itertools.islice(questions(DOMAINS[name]), count))
    done = itertools.count(1)

    def say() -> None:
        if (number := next(done)) % 100 == 0:
            print(f"{name}: {number} of {count} rows", flush=True)

    return model, processor, Rows(model, processor, 8, len(settings), folder).measure(rows, settings, KEEP_RATIOS, say)


def check(name: str, count: int, draws: int, work: Path) -> dict[str, Any]:
    model, _ = load_zspa(name)
    settings = with_own(SETTINGS, model.config)
    (work / name).mkdir(parents=True, exist_ok=True)
    model, processor, measured = measure(name, count, work / name, settings)
    shares = {
        f"{ratio:g}": {str(each): round(100 * float(share), 2) for each, share in zip(settings, of_ratio)}
        for ratio, of_ratio in zip(KEEP_RATIOS, measured.whole.mean(-1))
    }
    found = [draw(measured, 0.9, seed) for seed in range(draws)]
    choices = Counter(
        f"{KEEP_RATIOS[each['chosen'][0]]:g}: {settings[each['chosen'][1]]}" if each["chosen"] else "nothing"
        for each in found
    )
    compared = [each["to_default"] for each in found if each["chosen"]]
    clock, start = Forwards(model), time.process_time()
    again = itertools.islice(questions(DOMAINS[name]), 20)
    Rows(model, processor, 8, len(settings), None).measure(list(again), settings, KEEP_RATIOS, lambda: None)
    took = time.process_time() - start
    return {
        "rows": count, "draws": draws, "tuned_on": TUNED_ON, "others": count - TUNED_ON, "whole_answers": shares,
        "reached": sum(each["share"] >= 0.9 for each in found), "least": min(each["share"] for each in found),
        "choices": dict(choices.most_common()),
        "clearly_worse_than_default": sum(high < 0 for _, _, high in compared),
        "clearly_better_than_default": sum(low > 0 for _, low, _ in compared),
        "to_default": float(np.mean([value for value, _, _ in compared])) if compared else None,
        "seconds_per_row": took / 20, "times_the_forwards": took / clock.seconds,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=["embedded", "embedded-qwen"])
    parser.add_argument("--rows", type=int, default=2200)
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--work", type=Path, default=Path("build/tune-check"))
    parser.add_argument("--output", type=Path, default=Path("docs/results/tune-check.json"))
    args = parser.parse_args()
    try:
        check_rows(0.98, range(100))
    except ValueError as error:
        few = str(error)
    found = {name: check(name, args.rows, args.draws, args.work) for name in args.models}
    where = f"{platform.machine()} CPU, one thread; torch {torch.__version__}, transformers {transformers.__version__}"
    content = {"where": where, "date": time.strftime("%Y-%m-%d"), "too_few": few, "models": found}
    args.output.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
