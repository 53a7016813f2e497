"""What was measured, in the metadata of a card: results of hf-zspa, which it replaces, and those of others."""

import re
from typing import Any

from huggingface_hub import EvalResult
from huggingface_hub.repocard_data import eval_results_to_model_index

from ...output import markdown_table
from ...pruners.registry import method_of_config
from ...remote_code.zspa_config import FIELDS

_MEASURED = re.compile(r", n = \d+(, all tokens [\d.]+)?$")  # ends the name of a metric that hf-zspa wrote


def measured(
    config: dict[str, Any], dataset: str, name: str, metric: str, value: float, n: int, unpruned: float | None = None
) -> EvalResult:
    """A result of hf-zspa for the metadata, with what it was measured with.

    Args:
        config: the `config.json` of the checkpoint that was measured.
        dataset: Hub id of the data set, which has `name` on the card.
        n: of how many questions.
        unpruned: the same with all tokens, where that was measured too.
    """
    beside = "" if unpruned is None else f", all tokens {unpruned:.2f}"
    return EvalResult(
        task_type="image-text-to-text",
        dataset_type=dataset,
        dataset_name=name,
        metric_type=metric,
        metric_value=round(value, 2),
        metric_name=f"{metric}, n = {n}{beside}",
        metric_args=_settings(config),
    )


def with_results(index: list[dict[str, Any]], name: str, results: list[EvalResult]) -> list[dict[str, Any]]:
    """The "model-index" of a card with these in the place of the results that hf-zspa wrote before."""
    (new,) = eval_results_to_model_index(name, results)
    others = [entry | {"results": [r for r in entry["results"] if not _is_ours(r)]} for entry in index]
    first, *more = [entry for entry in others if entry["results"]] or [new | {"results": []}]
    return [first | {"results": [*first["results"], *new["results"]]}, *more]


def table(results: list[EvalResult] | None, config: dict[str, Any]) -> str:
    """The results as a table; nothing where there are none.

    Those of hf-zspa stand there with what they were measured with, which need not be what `config` says.
    """
    if not results:
        return ""
    rows = []
    for found in results:
        ratios = _said(found.metric_args, config) if _MEASURED.search(str(found.metric_name)) else ""
        rows.append([str(found.dataset_name), found.metric_name or found.metric_type, str(found.metric_value), ratios])
    return markdown_table(("benchmark", "metric", "score", "measured with"), rows)


def _said(args: Any, config: dict[str, Any]) -> str:
    """What a result of hf-zspa was measured with, and whether the checkpoint is set otherwise now."""
    if not isinstance(args, dict) or len(args) < 2 or "zspa_keep_ratio" not in args:
        return "ratios that were not noted"
    then = FIELDS | args  # what a card does not name was the default
    same = all(then[name] == value for name, value in _settings(config).items())
    now = "" if same else "; **this checkpoint is set otherwise now**"
    return ", ".join(f"{name} {value}" for name, value in args.items()) + now


def _settings(config: dict[str, Any]) -> dict[str, Any]:
    """The entries of a `config.json` on which a score depends: the keep ratio, the method and what that reads."""
    method, read = method_of_config(config)
    found = {"keep_ratio": config["zspa_keep_ratio"], "method": method.travels, **method.fixed, **read}
    return {f"zspa_{name}": value for name, value in found.items()}


def _is_ours(result: dict[str, Any]) -> bool:
    """Whether hf-zspa wrote a result of a "model-index"."""
    return any(_MEASURED.search(str(metric.get("name"))) for metric in result["metrics"])
