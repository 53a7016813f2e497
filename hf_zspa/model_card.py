"""The README.md of a checkpoint, which the Hub shows as its model card: what is written, and what is left alone.

A card is metadata and text. Of the text, what stands between the two markers is written anew each time; all else is
the owner's. Of the metadata, what is missing is added, and what is there stays. Between the markers stands also a
digest of what was the owner's when the card was written, by which a later push knows whether anybody has changed it
since.
"""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import EvalResult
from huggingface_hub.repocard_data import eval_results_to_model_index

from .embedded import EXAMPLES
from .evaluation.benchmark_list import BENCHMARKS
from .model_card_text import PICTURE, strings, text

YAML_BLOCK = re.compile(r"\A\s*---[ \t]*\r?\n(.*?)(?:\r?\n)?---[ \t]*(?:\r?\n|\Z)", re.DOTALL)
BEGIN = "<!-- hf-zspa: what follows is written by hf-zspa, up to the closing marker; write your own text outside -->"
END = "<!-- hf-zspa: end -->"
SHIPPED_PICTURE = EXAMPLES / PICTURE
TAGS = ("custom_code", "visual-token-pruning", "zspaprune", "arxiv:2510.17197")
_OWN = "<!-- hf-zspa: own text {} -->"
_MEASURED = re.compile(r", n = \d+(, all tokens [\d.]+)?$")  # ends the name of a metric that hf-zspa wrote
INHERITED = ("license", "license_name", "license_link", "language")


def metadata_of(card: str) -> dict[str, Any]:
    """The metadata at the head of a card; none where there is none.

    Raises:
        ValueError: what stands there is not YAML, or not a mapping.
    """
    found = YAML_BLOCK.search(card)
    try:
        data = yaml.safe_load(found.group(1)) if found else {}
    except yaml.YAMLError as error:
        raise ValueError(f"the metadata of README.md is not YAML: {' '.join(str(error).split())}") from error
    if data is not None and not isinstance(data, dict):
        raise ValueError("the metadata of README.md must be `name: value` lines between two lines of ---")
    return data or {}


def base_metadata(folder: Path, repository: str | None) -> dict[str, Any]:
    """What the card of a base, in its folder, says that holds for a conversion too: licence, language, and its name."""
    readme = folder / "README.md"
    known = metadata_of(readme.read_text(encoding="utf-8")) if readme.is_file() else {}
    found = {name: known[name] for name in INHERITED if name in known}
    return found | ({"base_model": repository} if repository else {})


def card(
    config: dict[str, Any],
    name: str,
    *,
    existing: str | None = None,
    metadata: dict[str, Any] | None = None,
    revision: str | None = None,
    picture: str | None = None,
    results: dict[str, Any] | None = None,
) -> str:
    """A card, new or refreshed.

    Args:
        config: the checkpoint's `config.json`.
        name: what `from_pretrained` is to be given.
        existing: the card there is.
        metadata: what a new card knows of the base, see `base_metadata`.
        revision: the tag or commit that the snippets pin; None pins nothing.
        picture: what `kept-tokens.png` beside the card shows, see `picture_caption`; None for no picture.
        results: a `results.json` of `hf-zspa eval`; None leaves the results that the card has.

    Raises:
        ValueError: the existing card has no readable metadata, or only one of the two markers, or `results` has no row
            for the card.
    """
    known = metadata_of(existing or "") | {k: v for k, v in (metadata or {}).items() if existing is None}
    head = _metadata(known, name, config, results)
    written = text(config, name, head, revision, picture)
    if existing is None:
        body = f"# {name.rpartition('/')[2]}\n\n{BEGIN}{END}\n"
    else:
        body = YAML_BLOCK.sub("", existing, count=1).lstrip("\n")
    if (BEGIN in body) != (END in body) or body.find(BEGIN) > body.find(END):
        raise ValueError("README.md has only one of the two hf-zspa markers: put the other one back, or remove both")
    whole = f"---\n{_yaml(head)}---\n\n{body}"
    if BEGIN not in body:
        return whole
    before, rest = whole.split(BEGIN, 1)
    return f"{before}{BEGIN}\n{_OWN.format(_digest(whole))}\n\n{written}\n\n{END}{rest.split(END, 1)[1]}"


def merged(here: str, there: str, repository: str) -> str:
    """One card of two that may each have been edited by hand.

    Where both come from one push, and only one was edited since, it is that one, with what was removed from it. Where
    that is not known it is the one that has all of the other's own text.

    Args:
        here: the card in the checkpoint's folder.
        there: that in `repository` on the Hub.

    Raises:
        ValueError: each has text, or a metadata entry, that the other does not.
    """
    pushed = _pushed_digest(here)
    if pushed is not None and pushed == _pushed_digest(there):
        if _digest(there) == pushed:
            return here
        if _digest(here) == pushed:
            return there
    ours, theirs = metadata_of(here), metadata_of(there)
    differing = [
        name for name in ours if name in theirs and name not in ("tags", "model-index") and ours[name] != theirs[name]
    ]
    own, other = set(_own_lines(here)), set(_own_lines(there))
    if differing or not (own <= other or other <= own):
        what = f"its metadata ({', '.join(differing)})" if differing else "its text"
        raise ValueError(
            f"README.md was changed here and in {repository}, and {what} differs: fetch that with "
            f"hf download {repository} README.md --local-dir FOLDER, make one of the two, and push again"
        )
    newer = there if own <= other else here
    both = theirs | ours | {"tags": list(dict.fromkeys([*strings(theirs.get("tags")), *strings(ours.get("tags"))]))}
    if "model-index" in theirs:
        both["model-index"] = _both_results(theirs["model-index"], _results_in(ours))
    return f"---\n{_yaml(both)}---\n{YAML_BLOCK.sub('', newer, count=1)}"


def _own_lines(card_text: str) -> list[str]:
    """The lines of a card's text that hf-zspa did not write."""
    body = YAML_BLOCK.sub("", card_text, count=1)
    before, _, rest = body.partition(BEGIN)
    return [line.strip() for line in (before + rest.partition(END)[2]).splitlines() if line.strip()]


def _digest(card_text: str) -> str:
    """Of what is the owner's in a card: its metadata, and the text outside the markers."""
    own = json.dumps([metadata_of(card_text), _own_lines(card_text)], sort_keys=True, default=str)
    return hashlib.sha256(own.encode()).hexdigest()[:16]


def _pushed_digest(card_text: str) -> str | None:
    """What `_digest` was when hf-zspa last wrote the card."""
    found = re.search(_OWN.format("([0-9a-f]{16})"), card_text)
    return found.group(1) if found else None


def picture_caption(file: Path) -> str | None:
    """What the picture of a card shows; None where there is no such file."""
    if not file.is_file():
        return None
    shipped = file.read_bytes() == SHIPPED_PICTURE.read_bytes()
    by = "the small model inside hf_zspa" if shipped else "this checkpoint"
    return (
        f"Tokens kept by {by}: orange are those closest to the question, blue those added because they are unlike all "
        "kept before them."
    )


def pinned_revision(card_text: str) -> str | None:
    """The revision that the snippets of a card pin, if any."""
    found = re.search(r'^revision = "([^"]+)"', card_text, re.MULTILINE)
    return found.group(1) if found and found.group(1) != "main" else None


def _metadata(known: dict[str, Any], name: str, config: dict, results: dict | None) -> dict[str, Any]:
    head = {"library_name": "transformers", "pipeline_tag": "image-text-to-text"} | known
    head["tags"] = list(dict.fromkeys([*strings(known.get("tags")), *TAGS]))
    if known.get("base_model"):
        # Of the Hub's four relations the nearest: the weights are the base's, what they are fed is not.
        head.setdefault("base_model_relation", "finetune")
    if results is not None:
        measured = eval_results_to_model_index(name.rpartition("/")[2], eval_results(results, config))
        kept = [entry | {"results": [r for r in entry["results"] if not _is_ours(r)]} for entry in _index(known)]
        head["model-index"] = _both_results(kept, measured[0]["results"], measured[0]["name"])
    return {key: value for key, value in head.items() if value is not None}


def _index(head: dict[str, Any]) -> list[dict[str, Any]]:
    """The entry "model-index" of a card's metadata, which anybody may have written.

    Raises:
        ValueError: it is not as the Hub has it.
    """
    index = head.get("model-index") or []
    if not all(isinstance(entry, dict) and isinstance(entry.get("results"), list) for entry in index):
        raise ValueError("the metadata of README.md has a model-index without `results` lists: mend or remove it")
    return index


def _results_in(head: dict[str, Any]) -> list[dict[str, Any]]:
    return [result for entry in _index(head) for result in entry["results"]]


def _is_ours(result: dict[str, Any]) -> bool:
    """Whether hf-zspa wrote a result of a "model-index"."""
    return any(_MEASURED.search(str(metric.get("name"))) for metric in result.get("metrics") or [])


def _both_results(
    index: list[dict[str, Any]], results: list[dict[str, Any]], name: str | None = None
) -> list[dict[str, Any]]:
    """A "model-index" with the results too that it lacks, in its first entry or, where it is empty, one of `name`."""
    entries = [entry for entry in index if entry["results"]]
    known = [result for entry in entries for result in entry["results"]]
    more = [result for result in results if result not in known]
    if not more:
        return entries
    first, *others = entries or [{"name": name, "results": []}]
    return [first | {"results": [*first["results"], *more]}, *others]


def eval_results(results: dict[str, Any], config: dict[str, Any]) -> list[EvalResult]:
    """The rows of a `results.json` that were measured with the ratios of `config`, for the metadata.

    Raises:
        ValueError: there is none of the paper's benchmarks.
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
    rows = [row for row in results["rows"] if all(row.get(field) == value for field, value in own.items())]
    rows = [row for row in rows if row["task"] in BENCHMARKS]
    if not rows:
        wanted = ", ".join(f"{field} {value}" for field, value in own.items() if value is not None)
        raise ValueError(
            f"the results have no row of {wanted} on any of {', '.join(BENCHMARKS)}, which is what config.json says: "
            "give those of this checkpoint, or leave --results out"
        )
    unpruned = {row["task"]: row["value"] for row in results["rows"] if row.get("method") == "original"}
    return [
        EvalResult(
            task_type="image-text-to-text",
            dataset_type=BENCHMARKS[row["task"]].repository,
            dataset_name=BENCHMARKS[row["task"]].column,
            metric_type=row["metric"],
            metric_value=round(row["value"], 2),
            metric_name=f"{row['metric']}, n = {row['n']}" + _beside(unpruned.get(row["task"])),
        )
        for row in rows
    ]


def _beside(unpruned: float | None) -> str:
    return "" if unpruned is None else f", all tokens {unpruned:.2f}"


def _yaml(data: dict[str, Any]) -> str:
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True)
