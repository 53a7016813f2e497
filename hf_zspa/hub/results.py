"""From a `results.json` of `hf-zspa eval` to the results in a model card."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult

from ..checkpoints.card import measured
from ..evaluation.benchmarks import BENCHMARKS
from ..pruners.registry import method_of_config
from ..remote_code.zspa_config import FIELDS

_FIELDS: dict[str, Callable[[Any], bool]] = {
    "task": lambda value: isinstance(value, str),
    "method": lambda value: isinstance(value, str),
    "metric": lambda value: isinstance(value, str),
    "n": lambda value: isinstance(value, int),
    "value": lambda value: isinstance(value, (int, float)) and math.isfinite(value),
}


def read_results(path: Path) -> dict[str, Any]:
    """A `results.json` of `hf-zspa eval`; raises `ValueError` where it is none."""
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(
            f"--results {path} cannot be read: {error.strerror}; give a results.json of hf-zspa eval"
        ) from error
    except ValueError as error:
        raise ValueError(f"--results {path} is not a results.json of hf-zspa eval: {error}") from error
    if not isinstance(results, dict) or not isinstance(results.get("rows"), list):
        raise ValueError(f"--results {path} is not a results.json of hf-zspa eval: it has no list of rows")
    return results


def eval_results(results: dict[str, Any], config: dict[str, Any]) -> list[EvalResult]:
    """The rows of a `results.json` that were measured with the method and settings of `config`, for a card's metadata.

    Raises:
        ValueError: there is none of the paper's benchmarks, or a row lacks what one of `hf-zspa eval` has.
    """
    method, settings = method_of_config(config)
    own = {"method": method.name, "keep_ratio": config["zspa_keep_ratio"], **settings}
    all_rows = [_checked(place, row) for place, row in enumerate(results["rows"], 1)]
    # What a row does not name was not there to be set when it was measured, and was as the default is.
    said = [{name: row.get(name, FIELDS.get(f"zspa_{name}")) for name in own} for row in all_rows]
    rows = [row for row, found in zip(all_rows, said) if found == own and row["task"] in BENCHMARKS]
    if not rows:
        wanted = ", ".join(f"{field} {value}" for field, value in own.items())
        raise ValueError(
            f"the results have no row of {wanted} on any of {', '.join(BENCHMARKS)}, which is what config.json says: "
            "give those of this checkpoint, or leave --results out"
        )
    unpruned = {row["task"]: row["value"] for row in all_rows if row["method"] == "original"}
    found = []
    for row in rows:
        benchmark, beside = BENCHMARKS[row["task"]], unpruned.get(row["task"])
        score = (row["metric"], row["value"], row["n"], beside)
        found.append(measured(config, benchmark.repository, benchmark.column, *score))
    return found


def _checked(place: int, row: Any) -> dict[str, Any]:
    """A row of a `results.json`, of which a person may have written anything."""
    if not isinstance(row, dict):
        raise ValueError(f"row {place} of the results is {row!r}, not an object: give what hf-zspa eval wrote")
    for field, fits in _FIELDS.items():
        value = row.get(field)
        if isinstance(value, bool) or not fits(value):
            found = repr(value) if field in row else "missing"
            raise ValueError(f"in row {place} of the results, {field} is {found}: give what hf-zspa eval wrote")
    return row
