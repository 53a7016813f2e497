"""FastV's rule (Chen et al., 2024) on the embedded models: attention chooses, inside the language model.

    python docs/results/fastv.py --output docs/results/fastv.json

All visual tokens pass the first two layers. Those that the prompt's last token attends to most in the second, averaged
over its heads, go on with the text, at the positions that they had. So it is no pruner: the first two
layers cost what they did, and what they made of all tokens stays. Beside the JSON the same is written as Markdown.
"""

import argparse
import json
import platform
import time
from pathlib import Path
from typing import Any

import methods_report
import torch
import transformers
from methods_study import MODELS
from study import minus, summary
from study_report import average_shown
from torch import Tensor

from hf_zspa.evaluation.statistics import Difference
from hf_zspa.output import markdown_table, replace_file
from hf_zspa.pruners.one_by_one import OneByOne
from hf_zspa.pruners.registry import METHODS
from hf_zspa.scenes.heldout import collect
from hf_zspa.scenes.training.answering import Exam

KEEP_RATIOS = (0.25, 0.1, 0.05)
LAYERS = 2  # that see all visual tokens
COMPARED = ("random", "divprune", "zspa", "weighted")


class Attention:
    """The exam of a model whose language model drops visual tokens after its first layers."""

    def __init__(self, exam: Exam):
        self.exam, self.language = exam, exam.model.model.language_model
        self.language.config._attn_implementation = "eager"  # which returns the weights

    @torch.no_grad()
    def right(self, question: int, keep_ratios: tuple[float, ...]) -> list[bool]:
        """Whether a question is answered right, at each keep ratio."""
        exam, first = self.exam, len(self.exam.before)
        image, answer = exam.image_of[question], exam.answers[question]
        visual, text = exam.visual[image], torch.tensor([*exam.after[question], *answer[:-1]])
        context, start = exam.family.positions(exam.grids[image])
        later = start - len(exam.family.after) + torch.arange(len(text)).expand(len(context), -1)
        positions = torch.cat([context[:, : first + len(visual)], later], 1)
        states = torch.cat([exam.embed(exam.before), visual, exam.embed(text)])
        states, attention = self._layers(states, positions, slice(None, LAYERS))
        asks = first + len(visual) + len(exam.after[question]) - 1  # the prompt's last token
        received = attention[:, asks, first : first + len(visual)].mean(0)
        found = []
        for keep_ratio in keep_ratios:
            best = received.sort(descending=True, stable=True).indices[: OneByOne(keep_ratio).budget(len(visual))]
            stays = torch.ones(len(states), dtype=torch.bool)
            stays[first : first + len(visual)] = False
            stays[first + best] = True
            last, _ = self._layers(states[stays], positions[:, stays], slice(LAYERS, None))
            logits = exam.model.lm_head(self.language.norm(last[-len(answer) :]))
            found.append(logits.argmax(-1).tolist() == answer)
        return found

    def _layers(self, states: Tensor, positions: Tensor, some: slice) -> tuple[Tensor, Tensor]:
        """States `(s, d)` behind some layers, and the last one's attention `(heads, s, s)`."""
        weights: list[Tensor] = []
        layers = self.language.layers[some]
        hook = layers[-1].self_attn.register_forward_hook(lambda module, given, output: weights.append(output[1]))
        places = positions[:, None] if len(positions) > 1 else positions
        rotary = self.language.rotary_emb(states[None], places)
        mask = torch.full((len(states), len(states)), -torch.inf).triu(1)[None, None]
        states = states[None]
        for layer in layers:
            states = layer(states, attention_mask=mask, position_ids=places, position_embeddings=rotary)
        hook.remove()
        return states[0], weights[0][0]


def compare(name: str, per_kind: int) -> list[dict[str, Any]]:
    """The rows of one model: FastV's rule, and pruners on the same questions, which it is compared with."""
    checkpoint, domain = MODELS[name]
    exam = Exam(checkpoint, collect(per_kind, domain=domain))
    attention = Attention(exam)
    fastv = torch.tensor([attention.right(question, KEEP_RATIOS) for question in range(len(exam.kinds))])
    rows, kinds = [], tuple(dict.fromkeys(exam.kinds))
    for place, keep in enumerate(KEEP_RATIOS):
        ours = fastv[:, place]
        for method in ("fastv", *COMPARED):
            right = ours if method == "fastv" else exam.right(exam.kept(METHODS[method].make(keep)))
            about = {"model": name, "keep_ratio": keep, "method": method}
            minus_it = minus(exam.kinds, ours, right, kinds)
            rows.append(about | summary(exam.kinds, right, kinds) | {"fastv_minus": minus_it})
            print(f"{name}  keep {keep}  {method:9s} {rows[-1]['average']:.1f}", flush=True)
    return rows


def markdown(results: dict[str, Any]) -> str:
    parts = [
        "# FastV's rule on the embedded models\n\n"
        f"Per cent of {results['per_kind']} held-out questions of each kind answered right, with 95 % intervals; \\* "
        f"marks a difference whose interval leaves out 0. Measured {results['date']} with transformers "
        f"{results['transformers']} and torch {results['torch']}, float32, "
        f"on a CPU ({results['machine']}), one thread.\n\n"
        "FastV (Chen et al., 2024) keeps the visual tokens that the prompt's last token attends to most in the second "
        "layer of the language model, averaged over heads, from the third layer on. **These models have four layers: "
        "half see every visual token**, and the others see what these made of them, so this is no equal of the methods "
        "below it, which drop tokens before the first layer. Its authors drop them behind the second of 32. What a "
        "model of four layers attends to in its second says nothing about large ones."
    ]
    for model in dict.fromkeys(row["model"] for row in results["rows"]):
        mine = [row for row in results["rows"] if row["model"] == model]
        lines = [
            [
                f"{row['keep_ratio']:g}",
                row["method"],
                *(f"{score:.1f}" for score in row["kinds"].values()),
                average_shown(row),
                "" if row["method"] == "fastv" else str(Difference(*row["fastv_minus"])),
            ]
            for row in mine
        ]
        head = ["keep", "method", *mine[0]["kinds"], "average", "FastV minus it"]
        parts.append(f"## {methods_report.MODELS[model]}\n\n{markdown_table(head, lines)}")
    return "\n\n".join([*parts, "Written by `docs/results/fastv.py`."]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True, help="JSON file; the Markdown is written beside it")
    parser.add_argument("--per-kind", type=int, default=500, help="questions of each kind")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = [row for name in MODELS for row in compare(name, options.per_kind)]
    results = {
        "date": time.strftime("%Y-%m-%d"),
        "machine": platform.machine(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "per_kind": options.per_kind,
        "rows": rows,
    }
    replace_file(options.output, (json.dumps(results, indent=1) + "\n").encode())
    replace_file(options.output.with_suffix(".md"), markdown(results).encode())


if __name__ == "__main__":
    main()
