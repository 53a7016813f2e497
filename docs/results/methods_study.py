"""Which method, at which setting, answers best on the embedded models.

    python docs/results/methods_study.py --work build/methods --output docs/results/methods.json

Every setting of the grid is tried on scenes that tune; what is chosen there is judged on other scenes, beside the
settings that are published. One that is ahead of the paper's best core ratio everywhere and nowhere behind other
formulas is searched for on the scenes that tune. Halves of the kinds of question are also tuned on alone and judged by
the other half. WORK keeps which questions were answered right; a second run goes on where the first one stopped.
"""

import argparse
import json
import platform
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from methods_report import markdown
from study import KEEP_RATIOS, TUNING_SEED, average, best_of, minus, of_family, summary
from torch import Tensor

from hf_zspa.output import replace_file
from hf_zspa.pruners.registry import METHODS
from hf_zspa.scenes import CHECKPOINT, PHOTO_CHECKPOINT, QWEN_CHECKPOINT
from hf_zspa.scenes.domains import PHOTOGRAPHS, SCENES, VARIED_SCENES
from hf_zspa.scenes.heldout import collect
from hf_zspa.scenes.training.answering import Exam

MODELS = {
    "embedded": (CHECKPOINT, SCENES),
    "embedded-qwen": (QWEN_CHECKPOINT, VARIED_SCENES),
    "embedded-photo": (PHOTO_CHECKPOINT, PHOTOGRAPHS),
}
# Questions that name one thing that the answer is read off, and the others.
HALVES = {
    "first": ("existence", "attribute", "reading", "next"),
    "second": ("relation", "chart", "extreme", "exclusion", "line"),
}
TUNED = ("zspa", "weighted", "dpp", "mmtok")
SEARCHED = ("weighted", "dpp")
POOLINGS = ("mean", "max", "none")
WEIGHTS = (-1.0, -0.5, 0.25, 0.5, 0.75, 1.0)
WORDS = {"core_ratio": "core", "relevance_weight": "weight", "pooling": "pooling"}


@dataclass(frozen=True)
class Setting:
    """A method and what is set of it; the rest has its default."""

    method: str
    settings: tuple[tuple[str, Any], ...] = ()

    @property
    def name(self) -> str:
        values = dict(self.settings)
        words = [f"{WORDS[key]} {values[key]}" for key in values if key in WORDS]
        return ", ".join([METHODS[self.method].label, *words, *(["centred"] if values.get("centre") else [])])


def setting(method: str, **settings: Any) -> Setting:
    return Setting(method, tuple(settings.items()))


CORES = [setting("zspa", core_ratio=i / 10) for i in range(11)]
PUBLISHED = {
    "the default": setting("zspa", core_ratio=0.2),
    "CDPruner's formula": setting("conditional_dpp"),
    "MMTok's formula": setting("mmtok"),
}
FORMULAS = ("CDPruner's formula", "MMTok's formula")
FIXED = [setting("random"), *CORES, setting("conditional_dpp"), setting("mmtok"), setting("weighted"), setting("dpp")]


def grid() -> Iterator[Setting]:
    """Everything that is tuned. Of zspa, poolings and centring are tried with two core ratios."""
    yield from CORES
    for core, pooling, centre in product((0.2, 0.4), POOLINGS, (False, True)):
        if pooling != "mean" or centre:
            yield setting("zspa", core_ratio=core, pooling=pooling, centre=centre)
    for method, centre in product(SEARCHED, (False, True)):
        yield setting(method, relevance_weight=0.0, centre=centre)  # where no pooling counts
        for pooling, weight in product(POOLINGS, WEIGHTS):
            yield setting(method, relevance_weight=weight, pooling=pooling, centre=centre)
    for centre in (False, True):
        yield setting("mmtok", centre=centre)


class Answers:
    """Which questions an embedded model answers right, `(questions,)` bool, by keep ratio and setting."""

    def __init__(self, model: str, per_kind: int, first_seed: int, work: Path):
        self.model, self.per_kind, self.first_seed = model, per_kind, first_seed
        self.path = work / f"{model}-{first_seed}-{per_kind}.json"
        self.known: dict[str, Any] = json.loads(self.path.read_text()) if self.path.exists() else {}
        self._exam: Exam | None = None

    @property
    def exam(self) -> Exam:
        if self._exam is None:
            checkpoint, domain = MODELS[self.model]
            self._exam = Exam(checkpoint, collect(self.per_kind, domain=domain, first_seed=self.first_seed))
        return self._exam

    @property
    def kinds(self) -> list[str]:
        if "kinds" not in self.known:
            self.known["kinds"] = self.exam.kinds
        return self.known["kinds"]

    @property
    def all(self) -> Tensor:
        """With all tokens."""
        return self._right("all tokens", None)

    def __call__(self, keep: float, one: Setting) -> Tensor:
        return self._right(f"{keep} {one.name}", lambda: METHODS[one.method].make(keep, **dict(one.settings)))

    def _right(self, key: str, make: Any) -> Tensor:
        if key not in self.known:
            pruner = of_family(make(), self.exam.model.config.model_type) if make else None
            right = self.exam.right(self.exam.kept(pruner) if pruner else None)
            print(f"{self.model} {key}: {100 * right.float().mean():.1f}", flush=True)
            self.known[key] = "".join("01"[int(one)] for one in right)
            self.known["kinds"] = self.exam.kinds
            self.path.parent.mkdir(parents=True, exist_ok=True)
            replace_file(self.path, json.dumps(self.known).encode())
        return torch.tensor([one == "1" for one in self.known[key]])


def chosen(tuning: dict[str, Answers], settings: Iterable[Setting], kinds: tuple[str, ...] | None = None) -> Setting:
    """The setting with the best average over models, keep ratios and kinds; of equals the first."""

    def score(one: Setting) -> float:
        return float(
            np.mean(
                [
                    average(it.kinds, it(keep, one), of(it.kinds, kinds))
                    for it in tuning.values()
                    for keep in KEEP_RATIOS
                ]
            )
        )

    return max(settings, key=score)


def of(asked: list[str], kinds: tuple[str, ...] | None = None) -> tuple[str, ...]:
    """Those of the kinds that are asked."""
    return tuple(kind for kind in dict.fromkeys(asked) if kinds is None or kind in kinds)


def choose(tuning: dict[str, Answers]) -> list[dict[str, Any]]:
    """Per method the setting chosen on all kinds, and on each half of them."""
    rows = []
    for method in TUNED:
        settings = [one for one in grid() if one.method == method]
        rows.append({"method": method, "all": chosen(tuning, settings)})
        rows[-1] |= {half: chosen(tuning, settings, kinds) for half, kinds in HALVES.items()}
    return rows


def search(tuning: dict[str, Answers]) -> list[dict[str, Any]]:
    """Per setting of "weighted" and "dpp", in how many pairs of a model and a keep ratio it is clearly ahead of the
    best core ratio, and clearly behind either formula, on the scenes that tune. The first has most of the one and
    least of the other."""
    rows = []
    for one in (it for it in grid() if it.method in SEARCHED):
        ahead, behind, averages = 0, 0, []
        for answers, keep in product(tuning.values(), KEEP_RATIOS):
            kinds, right = of(answers.kinds), answers(keep, one)
            cores = {core.name: answers(keep, core) for core in CORES}
            best = cores[best_of(answers.kinds, cores, kinds)]
            formulas = [answers(keep, PUBLISHED[name]) for name in FORMULAS]
            ahead += minus(answers.kinds, right, best, kinds)[1] > 0
            behind += any(minus(answers.kinds, right, other, kinds)[2] < 0 for other in formulas)
            averages.append(average(answers.kinds, right, kinds))
        counts = {"ahead": ahead, "behind": behind, "of": len(averages)}
        rows.append({"setting": one, "average": float(np.mean(averages)), **counts})
    return sorted(rows, key=lambda row: (row["behind"] - row["ahead"], -row["average"]))


def judge(judging: dict[str, Answers], settings: list[Setting]) -> list[dict[str, Any]]:
    """Each setting on each model at each keep ratio, with paired differences to what is published and to the core ratio
    that is best on these very questions."""
    rows = []
    for model, answers in judging.items():
        kinds = of(answers.kinds)
        rows.append(
            {"model": model, "keep_ratio": 1.0, "name": "all tokens", **summary(answers.kinds, answers.all, kinds)}
        )
        for keep in KEEP_RATIOS:
            cores = {one.name: answers(keep, one) for one in CORES}
            best = best_of(answers.kinds, cores, kinds)
            rivals = {name: answers(keep, one) for name, one in PUBLISHED.items()} | {
                "the best core ratio": cores[best],
                "weighted": answers(keep, setting("weighted")),
            }
            for one in settings:
                right = answers(keep, one)
                rows.append(
                    {
                        "model": model,
                        "keep_ratio": keep,
                        "name": one.name,
                        **summary(answers.kinds, right, kinds),
                        "best_core": best,
                        "minus": {name: minus(answers.kinds, right, other, kinds) for name, other in rivals.items()},
                        "behind": {
                            name: [k for k in kinds if minus(answers.kinds, right, other, (k,))[2] < 0]
                            for name, other in rivals.items()
                        },
                    }
                )
    return rows


def transfer(judging: dict[str, Answers], rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What was chosen on one half of the kinds, on the other half, with paired differences to what is published."""
    found = []
    for (half, _), (other, kinds) in zip(HALVES.items(), reversed(HALVES.items())):
        for (model, answers), keep, row in product(judging.items(), KEEP_RATIOS, rows):
            asked, right = of(answers.kinds, kinds), answers(keep, row[half])
            about = {"tuned_on": half, "judged_on": other, "model": model, "keep_ratio": keep, "method": row["method"]}
            differences = {
                name: minus(answers.kinds, right, answers(keep, one), asked) for name, one in PUBLISHED.items()
            }
            found.append(about | {"average": average(answers.kinds, right, asked), "minus": differences})
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, help="JSON file; without it only the scenes that tune are asked about")
    parser.add_argument("--work", type=Path, required=True, help="folder of the answers")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--per-kind", type=int, default=500, help="questions of each kind that judge")
    parser.add_argument("--tuning-per-kind", type=int, default=200, help="questions of each kind that tune")
    options = parser.parse_args()
    torch.set_num_threads(1)
    tuning = {name: Answers(name, options.tuning_per_kind, TUNING_SEED, options.work) for name in options.models}
    for answers, one, keep in product(tuning.values(), grid(), KEEP_RATIOS):
        answers(keep, one)
    for answers, name, keep in product(tuning.values(), FORMULAS, KEEP_RATIOS):
        answers(keep, PUBLISHED[name])
    if options.output is None:
        return
    rows, searched = choose(tuning), search(tuning)
    entries = [*FIXED, *(row[key] for row in rows for key in ("all", *HALVES)), searched[0]["setting"]]
    settings = list({one.name: one for one in entries}.values())  # "mmtok" and "mmtok" without centring are one
    judging = {name: Answers(name, options.per_kind, 0, options.work) for name in options.models}
    results = {
        "date": time.strftime("%Y-%m-%d"),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "hardware": f"CPU ({platform.machine()}), {torch.get_num_threads()} thread",
        "per_kind": options.per_kind,
        "tuning_per_kind": options.tuning_per_kind,
        "grid": len(list(grid())),
        "chosen": [{key: getattr(value, "name", value) for key, value in row.items()} for row in rows],
        "searched": [row | {"setting": row["setting"].name} for row in searched],
        "judged": judge(judging, settings),
        "transfer": transfer(judging, rows),
    }
    replace_file(options.output, (json.dumps(results, indent=1) + "\n").encode())
    replace_file(options.output.with_suffix(".md"), markdown(results).encode())


if __name__ == "__main__":
    main()
