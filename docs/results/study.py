"""Which settings of the method are best, measured on an embedded model with the same questions for all.

    python docs/results/study.py --output docs/results/settings-llava.json
    python docs/results/study.py --family qwen2_5_vl --output docs/results/settings-qwen.json

writes every variant's score per kind of question and its paired differences to the default, to both baselines and to
the best core ratio at the same keep ratio, and beside the JSON the same as Markdown.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from core_rules import RULES, Rule, StudiedPruner, share
from study_report import markdown
from torch import Tensor

from hf_zspa.checkpoints.code_files import stated
from hf_zspa.checkpoints.families import FAMILIES
from hf_zspa.evaluation.statistics import average_difference, average_interval
from hf_zspa.output import replace_file
from hf_zspa.pruners.registry import METHODS
from hf_zspa.remote_code.zspa_methods import MmtokPruner
from hf_zspa.remote_code.zspa_selection import ZspaPruner
from hf_zspa.scenes import CHECKPOINT, QWEN_CHECKPOINT
from hf_zspa.scenes.domains import SCENES, VARIED_SCENES, Domain
from hf_zspa.scenes.heldout import HeldOut, collect
from hf_zspa.scenes.questions import KINDS
from hf_zspa.scenes.training.answering import Exam

KEEP_RATIOS = (0.25, 0.1, 0.05)
RULE_KEEP_RATIOS = (0.25, 0.1)
CORE_RATIOS = tuple(i / 10 for i in range(11))
TUNING_SEED = 1_000_000  # scenes that tune a rule are never those that judge it
TUNING_KINDS = ("existence", "attribute", "relation")  # the other kinds decide

UNRELATED = 32  # prompts of other questions that a rule may compare with


@dataclass(frozen=True)
class Variant:
    """One way to prune; `topic` is the question it helps to answer."""

    topic: str
    name: str
    make: Callable[[float], Any]  # from a keep ratio to a pruner
    scope: str = "query"
    compact: bool = False


def zspa(core_ratio: float, pooling: str = "mean") -> Callable[[float], ZspaPruner]:
    return lambda keep: ZspaPruner(keep, core_ratio, pooling)


def centred(core_ratio: float, centre: str) -> Callable[[float], StudiedPruner]:
    return lambda keep: StudiedPruner(keep, share(core_ratio), centre)


def variants(varied: bool) -> Iterator[Variant]:
    """Everything that is compared; position ids only where they can be renumbered."""
    for core in CORE_RATIOS:
        yield Variant("core ratio", f"core {core}", zspa(core))
    for core in (0.0, 0.2, 1.0):
        if not varied:
            yield Variant("position ids", f"compact, core {core}", zspa(core), compact=True)
        for centre in ("relevance", "diversity", "both"):
            if core not in (0.0, 1.0) or centre == ("diversity" if core == 0 else "relevance"):
                yield Variant("shared direction", f"off in {centre}, core {core}", centred(core, centre))
    for core in (0.2, 1.0):
        yield Variant("prompt scope", f"text, core {core}", zspa(core), scope="text")
        for pooling in ("max", "none"):
            yield Variant("pooling", f"{pooling}, core {core}", zspa(core, pooling))
    for name in ("random", "conditional_dpp", "mmtok"):
        yield Variant("other methods", METHODS[name].label, METHODS[name].make)


def of_family(pruner: Any, model_type: str) -> Any:
    """The pruner as a checkpoint of the family has it: MMTok's with the family's temperature."""
    if not isinstance(pruner, MmtokPruner):
        return pruner
    family = FAMILIES[model_type]
    return replace(pruner, tau_text=stated(family, "mmtok_tau_text", pruner.tau_text))


def mean_score(rows: np.ndarray) -> np.ndarray:
    """Mean of scores `(..., n, 1)`."""
    return rows.mean((-2, -1))


def average_parts(kinds: list[str], right: Tensor, chosen: tuple[str, ...]) -> list[tuple[np.ndarray, Any]]:
    """Per kind the scores `(n, 1)`, 0 or 100, and how they become one number."""
    scores = 100 * right.numpy().astype(float)[:, None]
    mask = np.array(kinds)
    return [(scores[mask == kind], mean_score) for kind in chosen]


def minus(kinds: list[str], right: Tensor, other: Tensor, chosen: tuple[str, ...]) -> list[float]:
    """The paired difference of two unweighted averages over kinds: value, low, high."""
    difference = average_difference(average_parts(kinds, right, chosen), average_parts(kinds, other, chosen))
    return [difference.value, difference.low, difference.high]


def summary(kinds: list[str], right: Tensor, chosen: tuple[str, ...]) -> dict[str, Any]:
    """Score per kind, and the unweighted average with its interval."""
    parts = average_parts(kinds, right, chosen)
    return {
        "kinds": {kind: float(scores.mean()) for kind, (scores, _) in zip(chosen, parts)},
        "average": float(np.mean([scores.mean() for scores, _ in parts])),
        "interval": list(average_interval(parts)),
    }


def average(kinds: list[str], right: Tensor, chosen: tuple[str, ...]) -> float:
    """The unweighted average over kinds."""
    return float(np.mean([scores.mean() for scores, _ in average_parts(kinds, right, chosen)]))


def best_of(kinds: list[str], rivals: dict[str, Tensor], chosen: tuple[str, ...]) -> str:
    """The name of the rival with the highest average; of equals the first."""
    return max(rivals, key=lambda name: average(kinds, rivals[name], chosen))


def compare(exam: Exam) -> list[dict[str, Any]]:
    """Every variant at every keep ratio, with paired differences to the default (core ratio 0.2), diversity alone (0),
    relevance alone (1) and the core ratio that is best on these very questions."""
    rows, chosen = [], tuple(KINDS)
    for keep in KEEP_RATIOS:
        found = []
        for variant in variants(exam.family.varied):
            kept = exam.kept(of_family(variant.make(keep), exam.model.config.model_type), variant.scope)
            found.append((variant, exam.right(kept, variant.compact)))
            score = average(exam.kinds, found[-1][1], chosen)
            print(f"keep {keep}  {variant.topic:16s} {variant.name:28s} {score:.1f}", flush=True)
        cores = {variant.name: right for variant, right in found if variant.topic == "core ratio"}
        best = best_of(exam.kinds, cores, chosen)
        for variant, right in found:
            others = dict.fromkeys(("core 0.2", "core 0.0", "core 1.0", best))
            rows.append(
                {
                    "topic": variant.topic,
                    "name": variant.name,
                    "keep_ratio": keep,
                    **summary(exam.kinds, right, chosen),
                    "minus": {name: minus(exam.kinds, right, cores[name], chosen) for name in others},
                }
            )
    return rows


def unrelated_prompts(exam: Exam) -> Tensor:
    """Pooled prompts `(UNRELATED, d)` for a rule to compare with: of the kinds that tune, no two of the same words."""
    places = {
        " ".join(sorted(text.split())): place
        for place, (kind, text) in enumerate(zip(exam.kinds, exam.texts))
        if kind in TUNING_KINDS
    }
    chosen = list(places.values())
    spread = [chosen[i * len(chosen) // UNRELATED] for i in range(min(UNRELATED, len(chosen)))]
    return torch.stack([exam.prompts["query"][place].mean(0) for place in spread])


def search_rule(tuning: Exam, judging: Exam) -> list[dict[str, Any]]:
    """Each rule and each fixed ratio, on the kinds that tune (with scenes of their own) and on those that decide.

    `minus_best_fixed` is the paired difference on the kinds that decide to the fixed ratio that is best there, and
    `behind` names the kinds, of all six, on which a rule is clearly behind the fixed ratio that is best on that kind.
    """
    deciding = tuple(kind for kind in KINDS if kind not in TUNING_KINDS)
    fixed = {f"core {core}": Rule(share(core)) for core in CORE_RATIOS}
    unrelated = unrelated_prompts(tuning)
    rows = []
    for keep in RULE_KEEP_RATIOS:
        tuned, judged = {}, {}
        for name, rule in (fixed | RULES).items():
            pruner = StudiedPruner(keep, rule.size, unrelated=unrelated, excess=rule.excess)
            tuned[name], judged[name] = (exam.right(exam.kept(pruner)) for exam in (tuning, judging))
            print(f"keep {keep}  {name:24s} {average(judging.kinds, judged[name], deciding):.1f}", flush=True)
        rivals = {name: judged[name] for name in fixed}
        best = best_of(judging.kinds, rivals, deciding)
        best_on = {kind: best_of(judging.kinds, rivals, (kind,)) for kind in KINDS}
        for name, right in judged.items():
            leads = {kind: minus(judging.kinds, right, rivals[best_on[kind]], (kind,)) for kind in KINDS}
            rows.append(
                {
                    "rule": name,
                    "fixed": name in fixed,
                    "keep_ratio": keep,
                    "tuning": summary(tuning.kinds, tuned[name], TUNING_KINDS),
                    "deciding": summary(judging.kinds, right, deciding),
                    "best_fixed": best,
                    "minus_best_fixed": minus(judging.kinds, right, rivals[best], deciding),
                    "behind": [kind for kind, (_, _, high) in leads.items() if high < 0],
                }
            )
    return rows


def tuning_questions(per_kind: int, domain: Domain) -> HeldOut:
    """Those of the kinds that tune, about scenes that are never judged."""
    heldout = collect(per_kind, domain=domain, first_seed=TUNING_SEED)
    return HeldOut(heldout.images, [asked for asked in heldout.questions if asked[1].kind in TUNING_KINDS])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--family", choices=("llava", "qwen2_5_vl"), default="llava")
    parser.add_argument("--output", type=Path, required=True, help="JSON file")
    parser.add_argument("--per-kind", type=int, default=500, help="questions of each kind")
    options = parser.parse_args()
    torch.set_num_threads(1)
    checkpoint = CHECKPOINT if options.family == "llava" else QWEN_CHECKPOINT
    domain = SCENES if options.family == "llava" else VARIED_SCENES
    exam = Exam(checkpoint, collect(options.per_kind, domain=domain))
    tuning = Exam(checkpoint, tuning_questions(options.per_kind, domain))
    results = {
        "family": options.family,
        "date": time.strftime("%Y-%m-%d"),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "per_kind": options.per_kind,
        "variants": compare(exam),
        "core_rules": search_rule(tuning, exam),
    }
    replace_file(options.output, (json.dumps(results, indent=1) + "\n").encode())
    replace_file(options.output.with_suffix(".md"), markdown(results).encode())


if __name__ == "__main__":
    main()
