"""What the selection on a CPU spends its time on, and how much of all similarities it computes.

    python docs/performance/selection_profile.py --output docs/performance/selection-profile-cpu.md

The features are those of `selection.py`. Milliseconds are those of the fastest of many calls, by part. What
bounds them are the products: GFLOP/s are those of the passes that compute similarities and, beside them, of one product
of all tokens with 576 of them, which is as fast as the machine gets.
"""

import argparse
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

from selection import KINDS, features
from torch import Tensor

from hf_zspa.bench.clock import seconds
from hf_zspa.output import markdown_table, replace_file
from hf_zspa.remote_code import zspa_lookahead
from hf_zspa.remote_code.zspa_lookahead import GreedyOnCpu
from hf_zspa.remote_code.zspa_selection import ZspaPruner

PARTS = {
    "norms": (GreedyOnCpu, "__init__"),
    "relevance": (GreedyOnCpu, "to_prompt"),
    "similarities": (GreedyOnCpu, "to_tokens"),
    "guesses": (zspa_lookahead, "likely_next"),
    "leaving behind": (GreedyOnCpu, "only"),
}
COLUMNS = (
    "tokens", "features", "ms", *PARTS, "passes", "of all pairs", "of tokens × kept", "GFLOP/s", "of one product",
)  # fmt: skip
KEEP_RATIO = 0.1
_WIDTH = 576  # tokens of the one product that the passes are compared with


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, nargs="+", default=[576, 2880, 8192], help="numbers of visual tokens")
    parser.add_argument("--seconds", type=float, default=3, help="about how long each may take")
    parser.add_argument("--output", type=Path, help="Markdown file")
    options = parser.parse_args()
    rows = []
    for n in options.tokens:
        for kind in KINDS:
            rows.append(profile(n, kind, options.seconds))
            print(*rows[-1], sep=", ", flush=True)
    if options.output:
        replace_file(options.output, f"{markdown_table(COLUMNS, rows)}\n".encode())


def profile(n: int, kind: str, allowed: float) -> list[str]:
    """A row of the table."""
    visual, prompt = features(n, kind)
    pruner = ZspaPruner(KEEP_RATIO)
    spent: dict[str, float] = defaultdict(float)
    shapes: list[tuple[int, int]] = []

    def timed(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any) -> Any:
            start = time.perf_counter()
            found = call(*arguments)
            spent[name] += time.perf_counter() - start
            if name == "similarities":
                shapes.append(tuple(found.shape))
            return found

        return run

    best: tuple[float, dict[str, float]] = (float("inf"), {})
    end = time.monotonic() + allowed
    with ExitStack() as patched:
        for part, (place, name) in PARTS.items():
            patched.enter_context(patch.object(place, name, timed(part, getattr(place, name))))
        while not best[1] or time.monotonic() < end:
            spent.clear()
            shapes.clear()
            best = min(
                best,
                (seconds(partial(pruner, [visual], [prompt]), visual.device), dict(spent)),
                key=lambda found: found[0],
            )
    total, parts = best
    products = sum(rows * columns for rows, columns in shapes)
    times = [total, *(parts.get(part, 0.0) for part in PARTS)]
    shares = [products / n**2, products / n / pruner.budget(n)]
    rates = [_gigaflops(products, visual.shape[1], parts["similarities"]), _rate_of_one_product(visual)]
    figures = [f"{1e3 * taken:.3g}" for taken in times] + [str(len(shapes))]
    return [str(n), kind, *figures, *(f"{share:.2f}" for share in shares), *(f"{rate:.3g}" for rate in rates)]


def _rate_of_one_product(visual: Tensor) -> float:
    some = visual[:_WIDTH]
    fastest = min(seconds(lambda: visual @ some.T, visual.device) for _ in range(5))
    return _gigaflops(len(visual) * len(some), visual.shape[1], fastest)


def _gigaflops(products: int, width: int, taken: float) -> float:
    return 2 * products * width / taken / 1e9


if __name__ == "__main__":
    main()
