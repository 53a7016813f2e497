"""`hf-zspa bench`: what is measured, and how it is written down."""

import json
import os
import platform
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

import torch
import transformers
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from ..embedded import EXAMPLES
from ..evaluation.paper import paper_efficiency
from ..inference import load_zspa, open_image, question_inputs
from . import shapes
from .measure import METHODS, ROUNDS, Settings, measure


@dataclass(frozen=True)
class Request:
    """What `hf-zspa bench` was asked for.

    Attributes:
        checkpoint: a zspa checkpoint, a folder or a Hub id; None where `shape` says what to build.
        pairs: JSON Lines with `image`, a path relative to the file, and `question`; None for the shipped examples.
        limit: pairs used at most.
    """

    settings: Settings
    checkpoint: str | None = None
    shape: str | None = None
    pairs: Path | None = None
    limit: int | None = None
    dtype: str = "auto"
    device: str | None = None
    output: Path | None = None


def bench(request: Request, console: Console) -> dict[str, Any]:
    """Measures, and writes `results.json`, `results.md` and, with matplotlib, `results.png` into the output folder.

    Raises:
        ValueError: neither or both of checkpoint and shape, an unknown shape, or pairs that cannot be read.
    """
    if (request.checkpoint is None) == (request.shape is None):
        raise ValueError(f"give a checkpoint or --shape, one of {', '.join(shapes.SHAPES)}")
    device = torch.device(request.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if request.shape:
        dtype = _dtype(request.dtype) or (torch.bfloat16 if device.type == "cuda" else torch.float32)
        with console.status(f"building {request.shape} with random weights"):
            model = shapes.build(request.shape, device, dtype)
        pairs = [shapes.inputs(request.shape, model)]
    else:
        asked = read_pairs(request.pairs, request.limit)
        model, processor = load_zspa(str(request.checkpoint))
        model = model.to(device, _dtype(request.dtype))
        pairs = [dict(question_inputs(model, processor, open_image(image), question)) for image, question in asked]
    columns = (SpinnerColumn(), TextColumn("{task.completed} answers"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=None)
        rows = measure(model, pairs, request.settings, advance=lambda: progress.advance(task))
    results = {
        "model": request.shape or request.checkpoint,
        "weights": "random" if request.shape else "checkpoint",
        "pairs": len(pairs),
        "created": date.today().isoformat(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else _processor(),
        "dtype": str(model.dtype).removeprefix("torch."),
        "attention": model.config.get_text_config()._attn_implementation,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "settings": asdict(request.settings),
        "rows": rows,
    }
    if request.output:
        request.output.mkdir(parents=True, exist_ok=True)
        (request.output / "results.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        (request.output / "results.md").write_text(markdown(results) + "\n", encoding="utf-8")
        plot(results, request.output / "results.png")
    return results


def read_pairs(path: Path | None, limit: int | None = None) -> list[tuple[Path, str]]:
    """Images and questions about them.

    Raises:
        ValueError: a line is not an object with `image` and `question`, or there is none.
    """
    if path is None:
        examples = json.loads((EXAMPLES / "examples.json").read_text(encoding="utf-8"))
        return [(EXAMPLES / example["file"], example["question"]) for example in examples][:limit]
    if not path.is_file():
        raise ValueError(f"there is no file {path} with image-question pairs")
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            pair = json.loads(line)
            found.append((path.parent / pair["image"], str(pair["question"])))
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f'line {number} of {path} is {line!r}, but must be like {{"image": "a.png", "question": "what is it?"}}'
            ) from error
    if not found:
        raise ValueError(f"{path} has no image-question pairs")
    return found[:limit]


def markdown(results: dict[str, Any]) -> str:
    """The rows as a table; times are medians in milliseconds."""
    lines = [
        "| method | visual tokens | vision tower | selection | first token | per token | end to end | to limit | "
        "cache MB | peak tensors MB |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in results["rows"]:
        selection = f"{row['selection']['median']:.4g}" if row["selection"] else "–"
        low, high = row["end_to_end"]["quartiles"]
        lines.append(
            f"| {row['method']} | {row['visual_tokens']} → {row['kept']} | {row['vision']['median']:.4g} | "
            f"{selection} | {row['first_token']['median']:.4g} | {row['per_token']['median']:.4g} | "
            f"{row['end_to_end']['median']:.4g} ({low:.4g} to {high:.4g}) | {row['end_to_end_to_limit']:.3f} | "
            f"{row['cache_bytes'] / 1e6:.2f} | {row['peak_memory']['tensors'] / 1e6:.1f} |"
        )
    return "\n".join(lines)


def paper_table_3(results: dict[str, Any]) -> str:
    """The paper's Table 3 with its own figures in columns of their own: LLaVA-1.5-7B, 900 samples of MMMU."""
    latency, memory, *_ = paper_efficiency()
    lines = [
        "| method | end to end, here | peak memory beyond the weights, here | end to end, paper | peak memory, paper |",
        "|---|---|---|---|---|",
    ]
    for row in results["rows"]:
        known = row["method"] in latency
        lines.append(
            f"| {row['method']} | {row['end_to_end']['median']:.4g} ms | "
            f"{row['peak_memory']['tensors'] / 1e6:.1f} MB | "
            + (f"{latency[row['method']]} ms | {memory[row['method']]} MB |" if known else "– | – |")
        )
    return "\n".join(lines)


def plot(results: dict[str, Any], path: Path) -> bool:
    """Stacked times per method; False, and no file, without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return False
    rows = results["rows"][::-1]
    names = [row["method"] for row in rows]
    vision = [row["vision"]["median"] for row in rows]
    selection = [row["selection"]["median"] if row["selection"] else 0.0 for row in rows]
    first = [row["first_token"]["median"] for row in rows]
    prefill = [max(0.0, f - v - s) for f, v, s in zip(first, vision, selection)]
    decode = [row["end_to_end"]["median"] - row["first_token"]["median"] for row in rows]
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    axes = figure.subplots()
    left = [0.0] * len(rows)
    for label, values in {"vision tower": vision, "selection": selection, "prefill": prefill, "decode": decode}.items():
        axes.barh(names, values, left=left, label=label)
        left = [a + b for a, b in zip(left, values)]
    axes.set_xlabel("milliseconds")
    axes.set_title(f"{results['model']}, {results['dtype']}, {results['device']}")
    axes.legend(frameon=False)
    figure.savefig(path, dpi=120)
    return True


def _dtype(name: str) -> torch.dtype | None:
    dtypes = {"auto": None, "float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if name not in dtypes:
        raise ValueError(f"--dtype is {name!r}, but must be one of {', '.join(dtypes)}")
    return dtypes[name]


def _processor() -> str:
    return f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads"


__all__ = ["METHODS", "ROUNDS", "Request", "bench", "markdown", "plot", "read_pairs"]
