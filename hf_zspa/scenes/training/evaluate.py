"""Accuracy on held-out questions, with and without pruning.

    python -m hf_zspa.scenes.training.evaluate --output docs/embedded-results.json

writes the results as JSON and, beside it, as Markdown tables.
"""

import argparse
import json
import platform
import time
from pathlib import Path

import torch
import transformers
from transformers import AutoConfig

from ...pruners.registry import METHODS
from .. import CHECKPOINT
from ..heldout import collect
from .answering import Exam
from .families import family_of
from .report import markdown, summary

KEEP_RATIOS = (0.5, 0.25, 0.1, 0.05)
CORE_RATIOS = (0.1, 0.2, 0.4, 0.6)


def evaluate(checkpoint: Path, per_kind: int, keep_ratios: tuple[float, ...] = KEEP_RATIOS) -> dict[str, object]:
    """Every method at every keep ratio on the same questions, as a dict ready for JSON."""
    domain = family_of(AutoConfig.from_pretrained(checkpoint)).domain
    exam = Exam(checkpoint, collect(per_kind, domain=domain))
    unseen = Exam(checkpoint, collect(per_kind, "unseen", domain))
    nothing = [torch.zeros(0, dtype=torch.long)] * len(exam.kinds)
    rows = [
        {"method": "full", "questions": "held-out", **summary(exam.kinds, exam.right())},
        {"method": "blind", "questions": "held-out", **summary(exam.kinds, exam.right(nothing))},
        {"method": "full", "questions": "unseen", **summary(unseen.kinds, unseen.right())},
    ]
    for keep_ratio in keep_ratios:
        pruners = {name: METHODS[name].make(keep_ratio) for name in ("random", "relevance", "divprune")}
        pruners |= {f"zspa {core}": METHODS["zspa"].make(keep_ratio, core_ratio=core) for core in CORE_RATIOS}
        for name, pruner in pruners.items():
            kept = exam.kept(pruner)
            row = {
                "method": name,
                "questions": "held-out",
                "keep_ratio": keep_ratio,
                "tokens": sum(map(len, kept)) / len(kept),
            }
            rows.append(row | summary(exam.kinds, exam.right(kept)))
            print(f"keep {keep_ratio}  {name:10s}  {rows[-1]['average']:.1f}", flush=True)
    return {"setting": _setting(), "per_kind": per_kind, "rows": rows}


def _setting() -> dict[str, str]:
    return {
        "date": time.strftime("%Y-%m-%d"),
        "hardware": f"CPU ({platform.machine()}), {torch.get_num_threads()} thread",
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "dtype": "float32",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINT)
    parser.add_argument("--output", type=Path, required=True, help="JSON file; the Markdown is written beside it")
    parser.add_argument("--per-kind", type=int, default=500, help="questions of each kind")
    options = parser.parse_args()
    torch.set_num_threads(1)
    results = evaluate(options.checkpoint, options.per_kind)
    options.output.write_text(json.dumps(results, indent=1) + "\n")
    options.output.with_suffix(".md").write_text(markdown(results))


if __name__ == "__main__":
    main()
