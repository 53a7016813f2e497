"""vLLM under load, pruned against unpruned: one server, asked by vLLM's own benchmark client by turns.

    python docs/performance/serving.py --output docs/performance/serving-cpu

Weights are random, in a Qwen-VL shape of `hf-zspa bench` but for the vocabulary, which is the embedded model's. A
request says itself how to choose which share of its visual tokens, so that nothing but that differs. The server's
vision cache is off: what one turn encoded would otherwise be there for the next. Writes the table of docs/serving.md,
too.
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
from hf_zspa.bench.shapes import SHAPES, Shape
from hf_zspa.bench.summary import in_turn
from hf_zspa.checkpoints.resolve import checkpoint_folder
from hf_zspa.output import markdown_table, replace_file, with_table

PAGE = Path(__file__).parents[1] / "serving.md"
METHODS: dict[str, dict[str, Any]] = {  # what a request asks for
    "unpruned": {"zspa_keep_ratio": 1.0},
    "zspa": {"zspa_keep_ratio": 0.1},
    "weighted": {"zspa_keep_ratio": 0.1, "zspa_method": "weighted"},
}
TEXT = 40  # tokens of a question
LOOK_EVERY = 0.5  # seconds between two looks at the cache's blocks: asking takes time from the server
LARGEST = 896  # pixels of a side: the server first encodes an image as large as it may come
_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja")
_SHOWN = {
    "prompt_tokens": "prompt tokens", "request_throughput": "requests/s", "median_ttft_ms": "first token (ms)",
    "median_tpot_ms": "per token (ms)", "blocks": "cache blocks",
}  # fmt: skip
_FIGURES = ("request_throughput", "median_ttft_ms", "median_tpot_ms", "median_e2el_ms")


@dataclass(frozen=True)
class Load:
    """Requests of one kind.

    Attributes:
        side: of the square image, in pixels; 28 × 28 of them are a visual token, of Qwen3-VL 32 × 32.
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


def write_checkpoint(folder: Path, shape: Shape) -> None:
    """A checkpoint without weights, for vLLM's load format "dummy": the shape, and the embedded model's tokenizer."""
    source = checkpoint_folder("embedded-qwen")
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    family, given = shape.family, shape.config
    kept = ("vocab_size", "eos_token_id", "pad_token_id", "bos_token_id")
    text = {name: config["text_config"][name] for name in kept} | {"model_type": family.text[-1]}
    config |= {"model_type": family.model_type, "architectures": [family.model_class, family.stock]}
    config |= {"text_config": given["text_config"] | text, "vision_config": given["vision_config"]}
    config |= {"zspa_vision_cache_mb": 0, "dtype": "bfloat16" if torch.cuda.is_available() else "float32"}
    config.pop("torch_dtype", None)
    pixels = json.loads((source / "preprocessor_config.json").read_text(encoding="utf-8"))
    pixels |= {"patch_size": given["vision_config"]["patch_size"], "min_pixels": 56 * 56, "max_pixels": LARGEST**2}
    pixels["processor_class"] = family.stock.replace("ForConditionalGeneration", "Processor")
    for name, content in {"config.json": config, "preprocessor_config.json": pixels}.items():
        (folder / name).write_text(json.dumps(content), encoding="utf-8")
    for name in _FILES:
        (folder / name).write_bytes((source / name).read_bytes())


def _flags(eager: bool) -> list[str]:
    block = "16" if torch.cuda.is_available() else "32"  # the smallest that there is
    return [
        "--load-format", "dummy", "--max-model-len", "4096", "--block-size", block, "--trust-request-mm-kwargs",
        "--limit-mm-per-prompt", '{"video": 0}', *(["--enforce-eager"] if eager else []),
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


def turn(address: str, folder: Path, load: Load, settings: dict[str, Any], requests: int, seed: int) -> dict[str, Any]:
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
        "extra-body": json.dumps({"mm_processor_kwargs": settings, "temperature": 0}),
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


def measure(
    shape: Shape, flags: list[str], methods: list[str], loads: list[Load], rounds: int, requests: int
) -> list[dict[str, Any]]:
    """Per load and method the medians over the rounds, in which the methods take turns."""
    rows = []
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        write_checkpoint(folder, shape)
        with serving(folder, folder / "log", *flags, environment={"VLLM_CPU_KVCACHE_SPACE": "2"}) as address:
            for number, load in enumerate(loads):
                found: dict[str, list[dict[str, Any]]] = {name: [] for name in methods}
                for time_round in range(rounds + 1):  # the first is to warm up
                    for name in in_turn(methods, time_round):
                        seed = 1000 * number + time_round
                        measured = turn(address, folder, load, METHODS[name], requests, seed)
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
    """The rows as a table, the first method of a load beside each of the others."""
    lines = []
    for row in rows:
        first = next(other for other in rows if other["name"] == row["name"])
        if row is not first:
            prompt, rate, *more = (f"{_figure(first[key])} → {_figure(row[key])}" for key in _SHOWN)
            times = f"{row['request_throughput'] / first['request_throughput']:.2f}"
            lines.append([row["name"], f"{first['method']} → {row['method']}", prompt, rate, times, *more])
    prompt, rate, *others = _SHOWN.values()
    return markdown_table(["load", "", prompt, rate, "times", *others], lines)


def _figure(figure: float | None) -> str:
    if figure is None:
        return "not seen"
    return f"{figure:.0f}" if figure >= 1000 else f"{figure:.4g}"


def about(results: dict[str, Any]) -> str:
    """What was measured, when and on what."""
    command = results["command"].split()
    shape = command[command.index("--shape") + 1] + (", nothing compiled" if "--eager" in command else "")
    methods = ", ".join(dict.fromkeys(row["method"] for row in results["rows"]))
    rounds = len(results["rows"][0]["turns"])
    return (
        f"{shape}; {results['created']}, {results['device']}, vLLM {results['vllm']}, torch {results['torch']}, "
        f"transformers {results['transformers']}; medians of {rounds} rounds, in each a turn of {results['requests']} "
        f"requests for {methods}:"
    )


def write_page(name: str, text: str) -> None:
    """Puts a table into the page of serving."""
    replace_file(PAGE, with_table(PAGE.read_text(encoding="utf-8"), name, text).encode())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    packed = [name for name, shape in SHAPES.items() if shape.packed and shape.family.vllm]
    parser.add_argument("--shape", default="qwen2.5-vl-7b-small", choices=packed, help="of hf-zspa bench")
    parser.add_argument("--eager", action="store_true", help="nothing is compiled")
    parser.add_argument("--methods", default="unpruned,zspa", help=f"of {','.join(METHODS)}")
    parser.add_argument("--loads", default=",".join(map(str, range(len(LOADS)))), help="by their place in the table")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each method at each load")
    parser.add_argument("--requests", type=int, default=16, help="requests in a turn")
    parser.add_argument("--output", type=Path, required=True, help="JSON and Markdown files, without their suffix")
    options = parser.parse_args()
    loads = [LOADS[int(place)] for place in options.loads.split(",")]
    flags = _flags(options.eager)
    rows = measure(SHAPES[options.shape], flags, options.methods.split(","), loads, options.rounds, options.requests)
    results = {
        "command": f"python docs/performance/serving.py --shape {options.shape}{' --eager' if options.eager else ''} "
        f"--methods {options.methods} --loads {options.loads} --rounds {options.rounds} --requests {options.requests}",
        **machine(torch.device("cuda" if torch.cuda.is_available() else "cpu")),
        "vllm": vllm_version(),
        "requests": options.requests,
        "rows": rows,
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    replace_file(options.output.with_suffix(".json"), (json.dumps(results, indent=1) + "\n").encode())
    replace_file(options.output.with_suffix(".md"), (markdown(rows) + "\n").encode())
    if options.output.resolve().parent == Path(__file__).resolve().parent:
        write_page(options.output.name, f"{about(results)}\n\n{markdown(rows)}")


def vllm_version() -> str:
    try:
        return version("vllm")
    except PackageNotFoundError:
        return f"{version('vllm-cpu')} (vllm-cpu)"


if __name__ == "__main__":
    main()
