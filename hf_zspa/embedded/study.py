"""Which settings of the method are best, measured on an embedded model with the same questions for all.

    python -m hf_zspa.embedded.study --output docs/study-llava.json
    python -m hf_zspa.embedded.study --family qwen2_5_vl --output docs/study-qwen.json

writes every variant's score per kind of question and its paired differences to the default, to both baselines and to
the best core ratio at the same keep ratio, and beside the JSON the same as Markdown.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from torch import Tensor

from ..evaluation.pruners import ConditionalDppPruner, MmtokPruner, OneByOne, RandomPruner
from ..evaluation.statistics import average_difference, average_interval
from ..remote_code.zspa_diversity import add_diverse
from ..remote_code.zspa_selection import ZspaPruner, relevance, round_half_up
from ..remote_code.zspa_similarity import Cosines, unit_vectors
from . import CHECKPOINT, QWEN_CHECKPOINT
from .answering import Exam
from .heldout import HeldOut, collect
from .questions import KINDS
from .study_report import markdown

KEEP_RATIOS = (0.25, 0.1, 0.05)
RULE_KEEP_RATIOS = (0.25, 0.1)
CORE_RATIOS = tuple(i / 10 for i in range(11))
TUNING_SEED = 1_000_000  # scenes that tune a rule are never those that judge it
TUNING_KINDS = ("existence", "attribute", "relation")  # the other kinds decide

UNRELATED = 32  # prompts of other questions that a rule may compare with
_SAME = 1e-4  # relative distance of pooled prompts that differ by rounding alone

# How many tokens the core has, from the relevance `(n,)` of the visual tokens to the prompt, that to unrelated prompts
# `(n, UNRELATED)`, and the budget.
CoreRule = Callable[[Tensor, Tensor, int], int]


@dataclass(frozen=True)
class StudiedPruner(OneByOne):
    """ZSPAPrune with a rule for the size of the core, and with or without the direction all visual tokens share.

    Args:
        rule: the size of the core; it is cut to the budget.
        centre: of which comparison the mean visual token is taken off first: "relevance", "diversity", "both" or
            "neither".
        unrelated: prompts `(UNRELATED, d)` of questions about other images, one pooled vector each; or None. Those with
            the words of the prompt at hand, in whatever order, are left out: they are not unrelated to it.
        excess: whether the core is chosen by how far relevance exceeds the mean over the unrelated prompts.
    """

    rule: CoreRule = lambda scores, unrelated, budget: 0
    centre: str = "neither"
    unrelated: Tensor | None = None
    excess: bool = False

    def choose(self, visual: Tensor, prompt: Tensor, budget: int) -> Tensor:
        centred = visual - visual.mean(0)
        scores = relevance(centred if self.centre in ("relevance", "both") else visual, prompt)
        others = scores[:, None]
        if self.unrelated is not None:
            others = unit_vectors(visual) @ unit_vectors(_unlike(self.unrelated, prompt)).T
        if self.excess:
            scores = scores - others.mean(1)
        core = min(budget, self.rule(scores, others, budget))
        compared = centred if self.centre in ("diversity", "both") else visual
        if core == 0:
            return ZspaPruner(self.keep_ratio, 0.0)([compared], [prompt])[0]
        order = scores.sort(descending=True, stable=True).indices[None, :core]
        added = add_diverse(Cosines([compared]), order, [core], budget - core)
        return torch.cat([order[0], added[0]])


def _unlike(unrelated: Tensor, prompt: Tensor) -> Tensor:
    """Those of `unrelated` `(k, d)` that are not the mean of `prompt` `(m, d)`, but for rounding."""
    pooled = prompt.mean(0)
    distance = torch.linalg.vector_norm(unrelated - pooled, dim=1)
    return unrelated[distance > _SAME * torch.linalg.vector_norm(pooled)]


def share(ratio: float) -> CoreRule:
    """A fixed share of the budget."""
    return lambda scores, unrelated, budget: round_half_up(ratio * budget)


def outliers(deviations: float) -> CoreRule:
    """Tokens whose relevance is that many standard deviations above the mean."""
    return lambda scores, unrelated, budget: int((scores > scores.mean() + deviations * scores.std()).sum())


def near_best(fraction: float) -> CoreRule:
    """Tokens whose relevance is above that fraction of the way from the mean to the best."""
    return lambda scores, unrelated, budget: int(
        (scores > scores.mean() + fraction * (scores.max() - scores.mean())).sum()
    )


def outlier_share(deviations: float) -> CoreRule:
    """All of the budget if as few tokens stand out as it has room for; the more of them, the smaller the core."""

    def rule(scores: Tensor, unrelated: Tensor, budget: int) -> int:
        found = int((scores > scores.mean() + deviations * scores.std()).sum())
        return found if found <= budget else round_half_up(budget * budget / found)

    return rule


def half_when_crowded(deviations: float) -> CoreRule:
    """The tokens that stand out if at most half of the budget does, else none: they would crowd out the rest."""

    def rule(scores: Tensor, unrelated: Tensor, budget: int) -> int:
        found = int((scores > scores.mean() + deviations * scores.std()).sum())
        return found if 2 * found <= budget else 0

    return rule


def above_unrelated(share_of_prompts: float) -> CoreRule:
    """Tokens more relevant than the best token is to that share of the unrelated prompts."""
    return lambda scores, unrelated, budget: int((scores > unrelated.amax(0).quantile(share_of_prompts)).sum())


def by_surprise(deviations: float) -> CoreRule:
    """Half of the budget if the best token is so many deviations more relevant than the best to unrelated prompts are
    on average, in proportion below that, and none where it is not more relevant than they are."""

    def rule(scores: Tensor, unrelated: Tensor, budget: int) -> int:
        best = unrelated.amax(0)
        surprise = float((scores.max() - best.mean()) / best.std().clamp_min(1e-6))
        return round_half_up(budget * min(1.0, max(0.0, surprise / deviations)) / 2)

    return rule


@dataclass(frozen=True)
class Rule:
    """A rule for the size of the core, and whether what a token has for unrelated prompts is taken off first."""

    size: CoreRule
    excess: bool = False


RULES: dict[str, Rule] = {
    **{f"outliers {c}": Rule(outliers(c)) for c in (2.0, 2.5, 3.0, 4.0)},
    **{f"near best {f}": Rule(near_best(f)) for f in (0.5, 0.7, 0.9)},
    **{f"outlier share {c}": Rule(outlier_share(c)) for c in (2.0, 3.0)},
    **{f"half when crowded {c}": Rule(half_when_crowded(c)) for c in (1.5, 2.0, 3.0)},
    **{f"above unrelated {q}": Rule(above_unrelated(q)) for q in (0.5, 0.9, 1.0)},
    **{f"by surprise {c}": Rule(by_surprise(c)) for c in (1.0, 2.0, 4.0)},
    **{f"core {c}, excess": Rule(share(c), excess=True) for c in (0.1, 0.2, 0.4)},
    **{f"outliers {c}, excess": Rule(outliers(c), excess=True) for c in (2.0, 3.0, 4.0)},
    **{f"half when crowded {c}, excess": Rule(half_when_crowded(c), excess=True) for c in (2.0, 3.0)},
}


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
    yield Variant("other methods", "random", RandomPruner)
    yield Variant("other methods", "conditional DPP", ConditionalDppPruner)
    yield Variant("other methods", "MMTok", MmtokPruner)


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
            kept = exam.kept(variant.make(keep), variant.scope)
            found.append((variant, exam.right(kept, variant.compact)))
            print(
                f"keep {keep}  {variant.topic:16s} {variant.name:28s} {average(exam.kinds, found[-1][1], chosen):.1f}"
            )
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


def tuning_questions(per_kind: int, varied: bool) -> HeldOut:
    """Those of the kinds that tune, about scenes that are never judged."""
    heldout = collect(per_kind, varied=varied, first_seed=TUNING_SEED)
    return HeldOut(heldout.images, [asked for asked in heldout.questions if asked[1].kind in TUNING_KINDS])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--family", choices=("llava", "qwen2_5_vl"), default="llava")
    parser.add_argument("--output", type=Path, required=True, help="JSON file")
    parser.add_argument("--per-kind", type=int, default=500, help="questions of each kind")
    options = parser.parse_args()
    torch.set_num_threads(1)
    checkpoint = CHECKPOINT if options.family == "llava" else QWEN_CHECKPOINT
    varied = options.family != "llava"
    exam = Exam(checkpoint, collect(options.per_kind, varied=varied))
    tuning = Exam(checkpoint, tuning_questions(options.per_kind, varied))
    results = {
        "family": options.family,
        "date": time.strftime("%Y-%m-%d"),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "per_kind": options.per_kind,
        "variants": compare(exam),
        "core_rules": search_rule(tuning, exam),
    }
    options.output.write_text(json.dumps(results, indent=1) + "\n")
    options.output.with_suffix(".md").write_text(markdown(results))


if __name__ == "__main__":
    main()
