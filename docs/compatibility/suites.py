"""The table of transformers' own test-suites in docs/compatibility.md.

    python tests/stock_suite.py CLONE FAMILY... --keep 1.0 0.999 0.5 --json FILE
    python docs/compatibility/suites.py FILE...

puts what those runs found into suites.json beside this file, and writes the table of the page from it.
"""

import json
import re
import sys
from collections import Counter
from pathlib import Path

from families import PAGE

from hf_zspa.output import with_table

FOUND = Path(__file__).with_name("suites.json")
KEEPS = ("1", "0.999", "0.5")
# Why a test ends otherwise than with the stock class, by what it says. The page explains each.
REASONS = {
    "`inputs_embeds`": "not inputs_embeds",
    "packed samples": "several samples are packed",
    "other words": "does not match .*placeholders",
    "`rope_deltas`": "rope_deltas",
    "the end of a prompt": "start again without it",
    "hidden images": r"numel\(\) == 0",
    "a new image": "a new image after a filled cache",
    "class of a cache": "non standard Cache",
    "hidden tokens": "No model with a differentiable loss",
    "layers of a cache": r"with_static_cache AssertionError: 2 != 4",
    "packed shapes": r"torch\.Size|Lists differ: \[",
}


def reason(test: str, why: str) -> str:
    return next((name for name, pattern in REASONS.items() if re.search(pattern, f"{test} {why}")), f"`{test}`")


def merged(found: dict, reports: list[dict]) -> dict:
    """Version of transformers → family → keep ratio → how the tests ended, and those unlike stock."""
    for report in reports:
        for version, families in report.items():
            for family, by_keep in families.items():
                found.setdefault(version, {}).setdefault(family, {}).update(by_keep)
    return found


def table(found: dict) -> str:
    lines = ["| suite of | transformers |" + "".join(f" passed at {keep}, unlike stock |" for keep in KEEPS)]
    lines += ["|---|---|" + "---|" * len(KEEPS)]
    rows = sorted((family, version) for version, families in found.items() for family in families)
    for family, version in rows:
        cells = [_cell(found[version][family].get(keep)) for keep in KEEPS]
        lines.append(" | ".join([f"| `{family}`", version, *cells]) + " |")
    return "\n".join(lines)


def _cell(result: dict | None) -> str:
    if result is None:
        return "–"
    unlike = Counter(reason(test, why) for test, (_, _, why) in result["unlike"].items())
    differences = ", ".join(f"{count} {name}" for name, count in unlike.most_common()) or "none"
    return f"{result['outcomes'].get('passed', 0)}, {differences}"


def main(arguments: list[str]) -> None:
    found = json.loads(FOUND.read_text(encoding="utf-8")) if FOUND.exists() else {}
    reports = [json.loads(Path(name).read_text(encoding="utf-8")) for name in arguments]
    FOUND.write_text(json.dumps(merged(found, reports), indent=1, sort_keys=True) + "\n", encoding="utf-8")
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(with_table(page, "suites", table(found)), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
