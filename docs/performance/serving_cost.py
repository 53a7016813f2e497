"""What the plug-in costs a request: stock vLLM beside it, each an engine in a process of its own, asked by turns.

    python docs/performance/serving_cost.py --output docs/performance/serving-cost-cpu

The features are as wide as those of a Qwen3-VL of real size, DeepStack's too. The model around them is so thin that
what surrounds it is most of a request: reading and hashing an image, scheduling, choosing tokens. Every image is new
and the vision cache is off. Answers have one token, and many, for what each later one costs. Writes the table of
docs/serving.md, too.
"""

import argparse
import json
import multiprocessing
import os
import statistics
import tempfile
import time
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import torch
from serving import METHODS, vllm_version, write_checkpoint, write_page

from hf_zspa.bench.machine import machine
from hf_zspa.bench.shapes import SHAPES, Shape
from hf_zspa.bench.summary import in_turn, median_interval, paired_ratio
from hf_zspa.output import markdown_table, replace_file

SHAPE = "qwen3-vl-8b"
STOCK = "stock"
SIDES = (672, 160)  # pixels of the square images
ANSWERS = (1, 65)  # tokens
QUESTION = "what colour is the circle ?"
CLOCKS = {"time": "time (ms)", "cpu": "CPU time (ms)"}


def thin(shape: Shape) -> Shape:
    """Features as wide, and hardly a model around them."""
    text, vision = shape.config["text_config"], shape.config["vision_config"]
    text = text | {"num_hidden_layers": 1, "num_attention_heads": 1, "num_key_value_heads": 1, "intermediate_size": 64}
    vision = vision | {"depth": 1, "hidden_size": 64, "num_heads": 2, "intermediate_size": 64}
    config = {"text_config": text, "vision_config": vision | {"deepstack_visual_indexes": [0]}}
    return replace(shape, config=shape.config | config)


def engine(asked: Any, folder: str, plugins: str) -> None:
    """Answers `(side, seed, tokens, settings)` with the seconds it took, on the clock and on processors, and the tokens
    of the prompt, until it is sent None."""
    os.environ |= {
        "VLLM_PLUGINS": plugins, "VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_CPU_KVCACHE_SPACE": "1",
        "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    }  # fmt: skip
    import numpy as np
    from PIL import Image
    from vllm import LLM, SamplingParams

    images = {"limit_mm_per_prompt": {"image": 1, "video": 0}}
    llm = LLM(folder, load_format="dummy", enforce_eager=True, max_model_len=4096, **images)
    asked.send("ready")
    while (request := asked.recv()) is not None:
        side, seed, tokens, settings = request
        sampling = SamplingParams(temperature=0, max_tokens=tokens, ignore_eos=True)
        pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
        content = [{"type": "image_pil", "image_pil": Image.fromarray(pixels)}, {"type": "text", "text": QUESTION}]
        start, cpu = time.perf_counter(), time.process_time()
        messages = [{"role": "user", "content": content}]
        (found,) = llm.chat(messages, sampling, use_tqdm=False, mm_processor_kwargs=settings)
        asked.send((time.perf_counter() - start, time.process_time() - cpu, len(found.prompt_token_ids)))


def measure(rounds: int) -> list[dict[str, Any]]:
    """Per side of an image, length of an answer and method what each round took, in which the methods take turns with
    one image."""
    spawn = multiprocessing.get_context("spawn")
    settings: dict[str, dict[str, Any] | None] = {STOCK: None, **METHODS}
    with tempfile.TemporaryDirectory() as folder:
        write_checkpoint(Path(folder), thin(SHAPES[SHAPE]))
        pipes, processes = {}, []
        for plugins in ("none", "hf_zspa"):
            pipes[plugins], theirs = spawn.Pipe()
            processes.append(spawn.Process(target=engine, args=(theirs, folder, plugins), daemon=True))
            processes[-1].start()
            theirs.close()
        for pipe in pipes.values():
            pipe.recv()
        rows = []
        for case, (side, answer) in enumerate(product(SIDES, ANSWERS)):
            found: dict[str, list[tuple[float, float, int]]] = {name: [] for name in settings}
            for time_round in range(rounds + 2):  # two to warm up
                for name in in_turn(settings, time_round):
                    pipe = pipes["none" if name == STOCK else "hf_zspa"]
                    pipe.send((side, 1000 * case + time_round, answer, settings[name]))
                    found[name].append(pipe.recv())
            for name, measured in found.items():
                seconds, cpu, tokens = zip(*measured[2:])
                row = {"side": side, "answer": answer, "method": name, "prompt_tokens": tokens[-1]}
                rows.append(row | {"time": seconds, "cpu": cpu})
        for pipe, process in zip(pipes.values(), processes):
            pipe.send(None)
            process.join()
    return rows


def markdown(rows: list[dict[str, Any]]) -> str:
    """Medians in milliseconds, and those of the differences and ratios to the stock model in the same round."""
    lines = []
    for row in rows:
        case = {"side": row["side"], "answer": row["answer"], "method": STOCK}
        stock = next(other for other in rows if case.items() <= other.items())
        cells = [f"{row['side']} × {row['side']}", str(row["answer"]), row["method"], str(row["prompt_tokens"])]
        for clock in CLOCKS:
            cells.append(f"{1e3 * statistics.median(row[clock]):.1f}")
            cells += ["", ""] if row is stock else _beside(row[clock], stock[clock])
        lines.append(cells)
    header = ["image", "tokens of the answer", "", "prompt tokens"]
    for name in CLOCKS.values():
        header += [name, "more than stock (ms)", "times stock"]
    return markdown_table(header, lines)


def _beside(own: list[float], stock: list[float]) -> list[str]:
    differences = [1e3 * (a - b) for a, b in zip(own, stock, strict=True)]
    ratio = paired_ratio(own, stock)
    cells = [(f"{statistics.median(differences):.1f}", median_interval(differences), ".1f")]
    cells.append((f"{ratio['median']:.3f}", ratio["interval"], ".3f"))
    return [f"{median} ({ends[0]:{form}} to {ends[1]:{form}})" if ends else median for median, ends, form in cells]


def about(results: dict[str, Any]) -> str:
    """What was measured, when and on what."""
    return (
        f"{SHAPE}'s features; {results['created']}, {results['device']}, vLLM {results['vllm']}, torch "
        f"{results['torch']}, transformers {results['transformers']}, float32; medians of {results['rounds']} rounds "
        "and, in brackets, their 95 % interval:"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=60, help="requests of each method with each image")
    parser.add_argument("--output", type=Path, required=True, help="JSON and Markdown files, without their suffix")
    options = parser.parse_args()
    results = {
        "command": f"python docs/performance/serving_cost.py --rounds {options.rounds}",
        **machine(torch.device("cpu")),
        "vllm": vllm_version(),
        "rounds": options.rounds,
        "rows": measure(options.rounds),
    }
    replace_file(options.output.with_suffix(".json"), (json.dumps(results) + "\n").encode())
    replace_file(options.output.with_suffix(".md"), (markdown(results["rows"]) + "\n").encode())
    if options.output.resolve().parent == Path(__file__).resolve().parent:
        write_page(options.output.name, f"{about(results)}\n\n{markdown(results['rows'])}")


if __name__ == "__main__":
    main()
