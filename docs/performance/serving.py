"""vLLM under load, pruned against unpruned: one server, asked by vLLM's own benchmark client by turns.

    python docs/performance/serving.py --output docs/performance/serving-cpu

Weights are random, in a Qwen2.5-VL shape of `hf-zspa bench` but for the vocabulary, which is the embedded model's. A
request says itself what share of its visual tokens to keep, so that nothing but that differs. The server's vision cache
is off: what one turn encoded would otherwise be there for the next.
"""

import argparse
import json
import statistics
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from server import label, metric, serving

from hf_zspa.bench.machine import machine
from hf_zspa.bench.shapes import SHAPES
from hf_zspa.checkpoints.resolve import checkpoint_folder
from hf_zspa.output import markdown_table, replace_file

KEEP_RATIOS = {"unpruned": 1.0, "zspa": 0.1}
TEXT = 40  # tokens of a question
LOOK_EVERY = 0.5  # seconds between two looks at the cache's blocks: asking takes time from the server
LARGEST = 896  # pixels of a side: the server first encodes an image as large as it may come
_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja")
_FIGURES = ("request_throughput", "median_ttft_ms", "median_tpot_ms", "median_e2el_ms")


@dataclass(frozen=True)
class Load:
    """Requests of one kind.

    Attributes:
        side: of the square image, in pixels; 28 × 28 of them are a visual token.
        new_tokens: of the answer.
        concurrency: requests at a time.
    """

    name: str
    side: int
    new_tokens: int
    concurrency: int


LOADS = (
    Load("large image, short answer, one at a time", 672, 8, 1),
    Load("large image, short answer", 672, 8, 4),
    Load("large image, long answer", 672, 96, 4),
    Load("small image, short answer", 168, 8, 4),
    Load("small image, long answer", 168, 96, 4),
)


def write_checkpoint(folder: Path, shape: str) -> None:
    """A checkpoint without weights, for vLLM's load format "dummy": the shape, and the embedded model's tokenizer."""
    source = checkpoint_folder("embedded-qwen")
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    given = SHAPES[shape].config
    kept = ("model_type", "vocab_size", "eos_token_id", "pad_token_id", "bos_token_id")
    text = {name: config["text_config"][name] for name in kept}
    config |= {"text_config": given["text_config"] | text, "vision_config": given["vision_config"]}
    config |= {"zspa_vision_cache_mb": 0, "dtype": "bfloat16" if torch.cuda.is_available() else "float32"}
    config.pop("torch_dtype", None)
    pixels = json.loads((source / "preprocessor_config.json").read_text(encoding="utf-8"))
    pixels |= {"patch_size": 14, "min_pixels": 56 * 56, "max_pixels": LARGEST**2}
    for name, content in {"config.json": config, "preprocessor_config.json": pixels}.items():
        (folder / name).write_text(json.dumps(content), encoding="utf-8")
    for name in _FILES:
        (folder / name).write_bytes((source / name).read_bytes())


def _flags() -> list[str]:
    block = "16" if torch.cuda.is_available() else "32"  # the smallest that there is
    return [
        "--load-format", "dummy", "--max-model-len", "4096", "--block-size", block, "--trust-request-mm-kwargs",
        "--limit-mm-per-prompt", '{"video": 0}',
    ]  # fmt: skip


@contextmanager
def watching_blocks(address: str) -> Iterator[list[int]]:
    """Fills the list with the number of cache blocks in use, every `LOOK_EVERY` seconds."""
    total = int(label(address, "vllm:cache_config_info", "num_gpu_blocks"))
    seen: list[int] = []
    done = threading.Event()

    def look() -> None:
        while not done.wait(LOOK_EVERY):
            with suppress(OSError):
                seen.append(round(metric(address, "vllm:kv_cache_usage_perc") * total))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        done.set()
        thread.join()


def turn(address: str, folder: Path, load: Load, keep_ratio: float, requests: int, seed: int) -> dict[str, Any]:
    """What vLLM's benchmark client measures of so many requests; blocks are the most that were seen in use, or none
    where every look fell between requests."""
    from vllm.benchmarks import serve
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    parser = FlexibleArgumentParser()
    serve.add_cli_args(parser)
    options = {
        "backend": "openai-chat", "endpoint": "/v1/chat/completions", "base-url": address, "model": str(folder),
        "dataset-name": "random-mm", "random-input-len": TEXT, "random-output-len": load.new_tokens, "seed": seed,
        "random-mm-base-items-per-request": 1, "random-mm-bucket-config": f"{{({load.side},{load.side},1):1.0}}",
        "num-prompts": requests, "max-concurrency": load.concurrency, "percentile-metrics": "ttft,tpot,e2el",
        "extra-body": json.dumps({"mm_processor_kwargs": {"zspa_keep_ratio": keep_ratio}, "temperature": 0}),
    }  # fmt: skip
    arguments = [argument for name, value in options.items() for argument in (f"--{name}", str(value))]
    before = metric(address, "vllm:prompt_tokens_total")
    with watching_blocks(address) as blocks:
        found = serve.main(parser.parse_args([*arguments, "--disable-tqdm"]))
    if found["completed"] != requests:
        raise RuntimeError(f"{requests - found['completed']} of {requests} requests failed: {found.get('errors')}")
    if found["total_output_tokens"] != requests * load.new_tokens:
        raise RuntimeError(f"answers have {found['total_output_tokens']} tokens, not {load.new_tokens} each")
    prompt = (metric(address, "vllm:prompt_tokens_total") - before) / requests
    return {name: found[name] for name in _FIGURES} | {
        "blocks": max(blocks, default=0) or None,
        "prompt_tokens": prompt,
    }


def measure(shape: str, rounds: int, requests: int) -> list[dict[str, Any]]:
    """Per load and keep ratio the medians over the rounds, which take turns."""
    rows = []
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        write_checkpoint(folder, shape)
        with serving(folder, folder / "log", *_flags(), environment={"VLLM_CPU_KVCACHE_SPACE": "2"}) as address:
            for number, load in enumerate(LOADS):
                found: dict[str, list[dict[str, Any]]] = {name: [] for name in KEEP_RATIOS}
                for time_round in range(rounds + 1):  # the first is to warm up
                    for name, keep_ratio in KEEP_RATIOS.items():
                        seed = 1000 * number + time_round
                        measured = turn(address, folder, load, keep_ratio, requests, seed)
                        found[name] += [measured] if time_round else []
                for name, turns in found.items():
                    medians = {key: _median([turn[key] for turn in turns]) for key in turns[0]}
                    rows.append({**asdict(load), "method": name, **medians, "turns": turns})
                    print(f"{load.name}, {name}: {medians}", flush=True)
    return rows


def _median(figures: list[float | None]) -> float | None:
    """Of those that were seen."""
    seen = [figure for figure in figures if figure is not None]
    return statistics.median(seen) if seen else None


def markdown(rows: list[dict[str, Any]]) -> str:
    """The rows as a table, each load's two methods beside each other."""
    lines = []
    for whole, pruned in zip(rows[::2], rows[1::2]):
        times = pruned["request_throughput"] / whole["request_throughput"]
        prompt, rate, *more = (
            f"{_figure(whole[key])} → {_figure(pruned[key])}"
            for key in ("prompt_tokens", "request_throughput", "median_ttft_ms", "median_tpot_ms", "blocks")
        )
        lines.append([whole["name"], prompt, rate, f"{times:.2f}", *more])
    header = ("load", "prompt tokens", "requests/s", "times", "first token (ms)", "per token (ms)", "cache blocks")
    return markdown_table(header, lines)


def _figure(figure: float | None) -> str:
    return "not seen" if figure is None else f"{figure:.4g}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", default="qwen2.5-vl-7b-small", help="a Qwen2.5-VL shape of hf-zspa bench")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each method at each load")
    parser.add_argument("--requests", type=int, default=16, help="requests in a turn")
    parser.add_argument("--output", type=Path, required=True, help="JSON and Markdown files, without their suffix")
    options = parser.parse_args()
    rows = measure(options.shape, options.rounds, options.requests)
    results = {
        "command": f"python docs/performance/serving.py --shape {options.shape} --rounds {options.rounds} "
        f"--requests {options.requests}",
        **machine(torch.device("cuda" if torch.cuda.is_available() else "cpu")),
        "vllm": _vllm_version(),
        "requests": options.requests,
        "rows": rows,
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    replace_file(options.output.with_suffix(".json"), (json.dumps(results, indent=1) + "\n").encode())
    replace_file(options.output.with_suffix(".md"), (markdown(rows) + "\n").encode())


def _vllm_version() -> str:
    try:
        return version("vllm")
    except PackageNotFoundError:
        return f"{version('vllm-cpu')} (vllm-cpu)"


if __name__ == "__main__":
    main()
