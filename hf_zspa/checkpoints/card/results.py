"""What was measured, in the metadata of a card: results of hf-zspa, which it replaces, and those of others."""

import math
import re
from collections.abc import Callable, Sequence
from typing import Any

from huggingface_hub import EvalResult
from huggingface_hub.repocard_data import eval_results_to_model_index, model_index_to_eval_results

from ...evaluation.benchmark_list import BENCHMARKS
from .front_matter import load, with_entry, with_list

INDEX = "model-index"
_MEASURED = re.compile(r", n = \d+(, all tokens [\d.]+)?$")  # ends the name of a metric that hf-zspa wrote


def with_measured(head: str, name: str, results: dict[str, Any], config: dict[str, Any]) -> str:
    """A head with the results of `hf-zspa eval` in place of those that it had of an earlier one."""
    (entry,) = eval_results_to_model_index(name, eval_results(results, config))
    new = entry["results"]
    if not results_in(load(head)):
        return with_entry(head, INDEX, [{"name": name, "results": new}])
    return with_results(head, new, lambda old: _is_ours(old) and old not in new)


def with_results(head: str, more: Sequence[dict[str, Any]], drop: Callable[[dict[str, Any]], bool]) -> str:
    """A head with the results too that it lacks, in its first entry, and without those to drop."""
    index = index_of(load(head))
    known = results_in(load(head))
    for place, entry in reversed(list(enumerate(index))):
        add = [result for result in more if result not in known] if place == 0 else []
        dropped = [i for i, result in enumerate(entry["results"]) if drop(result)]
        if add or len(dropped) < len(entry["results"]):
            head = with_list(head, (INDEX, place, "results"), add, dropped) if add or dropped else head
        else:
            head = with_list(head, (INDEX,), drop=[place])
    return head


def index_of(metadata: dict[str, Any]) -> list[dict[str, Any]]:
    """The entry "model-index" of a card's metadata, which anybody may have written.

    Raises:
        ValueError: it is not as the Hub has it.
    """
    index = metadata.get(INDEX) or []
    mend = "mend or remove it"
    if not isinstance(index, list) or not all(
        isinstance(entry, dict) and isinstance(entry.get("results"), list) for entry in index
    ):
        raise ValueError(f"the metadata of README.md has a model-index without `results` lists: {mend}")
    try:
        if index:
            model_index_to_eval_results([{"name": ""} | entry for entry in index])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            "the metadata of README.md has a model-index with a result that is none "
            f"({type(error).__name__}: {error}): the Hub wants a task with type, a dataset with type and name, and "
            f"metrics with type and value; {mend}"
        ) from error
    return index


def results_in(metadata: dict[str, Any]) -> list[dict[str, Any]]:
    return [result for entry in index_of(metadata) for result in entry["results"]]


def table(metadata: dict[str, Any], config: dict[str, Any]) -> str:
    """The results in the metadata as a table; nothing where there are none.

    Those of hf-zspa stand there with the ratios that they were measured with, which need not be those of `config`.
    """
    index = index_of(metadata)
    if not index:
        return ""
    _, results = model_index_to_eval_results([{"name": ""} | entry for entry in index])
    lines = ["| benchmark | metric | score | measured with |", "|---|---|---|---|"]
    for found in results:
        ratios = _said(found.metric_args, config) if _MEASURED.search(str(found.metric_name)) else ""
        name = found.metric_name or found.metric_type
        lines.append(f"| {found.dataset_name} | {name} | {found.metric_value} | {ratios} |")
    return "\n".join(lines)


def _said(args: Any, config: dict[str, Any]) -> str:
    """What a result of hf-zspa was measured with, and whether the checkpoint is set otherwise now."""
    if not isinstance(args, dict) or not {"zspa_keep_ratio", "zspa_core_ratio"} <= set(args):
        return "ratios that were not noted"
    now = "" if args == _ratios(config) else "; **this checkpoint is set otherwise now**"
    return ", ".join(f"{name} {value}" for name, value in args.items()) + now


def _ratios(config: dict[str, Any]) -> dict[str, Any]:
    """The entries of a `config.json` on which a score depends: the ratios, and the pooling where it has a say."""
    names = ["zspa_keep_ratio", "zspa_core_ratio", *(["zspa_pooling"] if config["zspa_core_ratio"] else [])]
    return {name: config[name] for name in names}


def eval_results(results: dict[str, Any], config: dict[str, Any]) -> list[EvalResult]:
    """The rows of a `results.json` that were measured with the ratios of `config`, for the metadata.

    Raises:
        ValueError: there is none of the paper's benchmarks, or a row lacks what one of `hf-zspa eval` has.
    """
    own = {
        "method": "zspa",
        "keep_ratio": config["zspa_keep_ratio"],
        "core_ratio": config["zspa_core_ratio"],
        "pooling": config["zspa_pooling"],
    }
    if config["zspa_core_ratio"] in (0, 1):
        own |= {"method": "relevance" if config["zspa_core_ratio"] else "divprune", "core_ratio": None}
        own |= {} if config["zspa_core_ratio"] else {"pooling": None}
    all_rows = [_checked(place, row) for place, row in enumerate(results["rows"], 1)]
    rows = [row for row in all_rows if all(row.get(field) == value for field, value in own.items())]
    rows = [row for row in rows if row["task"] in BENCHMARKS]
    if not rows:
        wanted = ", ".join(f"{field} {value}" for field, value in own.items() if value is not None)
        raise ValueError(
            f"the results have no row of {wanted} on any of {', '.join(BENCHMARKS)}, which is what config.json says: "
            "give those of this checkpoint, or leave --results out"
        )
    unpruned = {row["task"]: row["value"] for row in all_rows if row["method"] == "original"}
    return [
        EvalResult(
            task_type="image-text-to-text",
            dataset_type=BENCHMARKS[row["task"]].repository,
            dataset_name=BENCHMARKS[row["task"]].column,
            metric_type=row["metric"],
            metric_value=round(row["value"], 2),
            metric_name=f"{row['metric']}, n = {row['n']}" + _beside(unpruned.get(row["task"])),
            metric_args=_ratios(config),
        )
        for row in rows
    ]


def _checked(place: int, row: Any) -> dict[str, Any]:
    """A row of a `results.json`, of which a person may have written anything."""
    wanted: dict[str, Callable[[Any], bool]] = {
        "task": lambda value: isinstance(value, str),
        "method": lambda value: isinstance(value, str),
        "metric": lambda value: isinstance(value, str),
        "n": lambda value: isinstance(value, int),
        "value": lambda value: isinstance(value, (int, float)) and math.isfinite(value),
    }
    if not isinstance(row, dict):
        raise ValueError(f"row {place} of the results is {row!r}, not an object: give what hf-zspa eval wrote")
    for field, fits in wanted.items():
        value = row.get(field)
        if isinstance(value, bool) or not fits(value):
            found = repr(value) if field in row else "missing"
            raise ValueError(f"in row {place} of the results, {field} is {found}: give what hf-zspa eval wrote")
    return row


def _is_ours(result: dict[str, Any]) -> bool:
    """Whether hf-zspa wrote a result of a "model-index"."""
    return any(_MEASURED.search(str(metric.get("name"))) for metric in result.get("metrics") or [])


def _beside(unpruned: float | None) -> str:
    return "" if unpruned is None else f", all tokens {unpruned:.2f}"
