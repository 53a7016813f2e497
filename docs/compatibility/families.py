"""The tables of families in docs/compatibility.md and docs/serving.md, from what tests/families and tests/vllm ran.

    python docs/compatibility/families.py .nox/reports/*.xml

reads pytest's reports, one for each version of transformers and named after it, and vllm.xml (`make test-all` leaves
them there), keeps the counts in families.json beside this file, and writes the tables of the pages from them.
"""

import json
import re
import sys
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path

from hf_zspa.output import with_table

PAGE = Path(__file__).parents[1] / "compatibility.md"
SERVING = PAGE.with_name("serving.md")
COUNTS = Path(__file__).with_name("families.json")
# What a test shows, by the beginning of its name.
MODES = {
    "test_the_tokens_selected": "selection",
    "test_generation_with_any": "greedy, three caches",
    "test_generation_of_the_other": "batches, several images",
    "test_an_image_of_any_shape": "tall, wide, tiny",
    "test_beams": "beams",
    "test_prompt_lookup": "prompt lookup",
    "test_a_video": "video",
    "test_images_and_videos": "video",
    "test_a_second_turn": "second turn",
    "test_a_direct_forward": "forward, loss",
    "test_a_training_step": "gradients",
    "test_nothing_pruned": "keep ratio 1",
    "test_compact": "compact",
    "test_a_token_depends": "drawn where it lies",
    "test_it_": "convert to push",
}
SERVED_MODES = {
    "test_an_engine_equals": "in batches and alone",
    "test_a_prefill_in_chunks": "chunked prefill",
    "test_a_prefix_that_ends": "prefix inside an image",
    "test_the_default_engine": "several processes",
    "test_a_video_equals": "video",
    "test_a_request_has_settings": "settings of a request",
    "test_a_request_prunes": "pruned by request alone",
    "test_another_question": "image encoded once",
    "test_compact": "compact",
    "test_two_ranks": "tensor parallel",
    "test_two_stages": "pipeline parallel",
    "test_a_second_question": "control: no question in the hash",
    "test_tokens_differ": "control: no positions filled in",
}
VLLM = "vllm"  # the report, and the key of its counts


def mode_of(test: str, modes: dict[str, str] = MODES) -> str | None:
    return next((mode for beginning, mode in modes.items() if test.startswith(beginning)), None)


def counted(reports: list[Path], families: list[str]) -> dict[str, dict[str, dict[str, dict[str, int]]]]:
    """Family → version → mode → outcome → how many tests."""
    found: dict = {}
    for report in reports:
        for case in ElementTree.parse(report).getroot().iter("testcase"):
            room, modes_there = ("vllm", SERVED_MODES) if report.stem == VLLM else ("families", MODES)
            mode = mode_of(case.get("name", ""), modes_there)
            named = re.findall(r"[a-z][a-z0-9_]*", case.get("name", "").partition("[")[2])
            family = next((name for name in named if name in families), None)
            if mode is None or family is None or f".{room}." not in f".{case.get('classname')}.":
                continue
            outcome = next((child.tag for child in case if child.tag in ("failure", "error", "skipped")), "passed")
            modes = found.setdefault(family, {}).setdefault(report.stem, {})
            modes.setdefault(mode, Counter())[outcome] += 1
    return found


def tables(counts: dict, versions: list[str]) -> str:
    """The page's tables: family by version, and family by mode on the newest version."""
    families = sorted(family for family in counts if {*counts[family]} & {*versions})
    lines = ["| passed tests on transformers |" + "".join(f" {version} |" for version in versions)]
    lines += ["|---|" + "---|" * len(versions)]
    lines += [f"| `{f}` |" + "".join(f" {_total(counts[f].get(v))} |" for v in versions) for f in families]
    modes = list(dict.fromkeys(MODES.values()))
    lines += ["", f"| {versions[-1]} |" + "".join(f" {mode} |" for mode in modes), "|---|" + "---|" * len(modes)]
    newest = {f: counts[f].get(versions[-1], {}) for f in families}
    lines += [f"| `{f}` |" + "".join(f" {_total({m: newest[f][m]}) if m in newest[f] else '–'} |" for m in modes)
              for f in families]  # fmt: skip
    return "\n".join(lines)


def serving_table(counts: dict) -> str:
    """Family by mode of the engine."""
    served = {family: versions[VLLM] for family, versions in sorted(counts.items()) if VLLM in versions}
    modes = list(SERVED_MODES.values())
    lines = ["| |" + "".join(f" `{family}` |" for family in served), "|---|" + "---|" * len(served)]
    for mode in modes:
        cells = [_total({mode: found[mode]}) if mode in found else "–" for found in served.values()]
        lines.append(f"| {mode} |" + "".join(f" {cell} |" for cell in cells))
    return "\n".join(lines)


def _total(modes: dict | None) -> str:
    """Passed tests, and of how many where not all passed."""
    if not modes:
        return "–"
    passed = sum(outcomes.get("passed", 0) for outcomes in modes.values())
    ran = sum(count for outcomes in modes.values() for count in outcomes.values())
    return str(passed) if passed == ran else f"{passed} of {ran}"


def main(arguments: list[str]) -> None:
    from hf_zspa.checkpoints.families import FAMILIES
    from hf_zspa.version import TESTED_TRANSFORMERS

    reports = [Path(name) for name in arguments if Path(name).stem in (*TESTED_TRANSFORMERS, VLLM)]
    counts = json.loads(COUNTS.read_text(encoding="utf-8"))
    for family, versions in counted(reports, list(FAMILIES)).items():
        counts.setdefault(family, {}).update(versions)  # of a report that is not given, the counts stay
    COUNTS.write_text(json.dumps(counts, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    text = tables(counts, list(TESTED_TRANSFORMERS))
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8"), "families", text), encoding="utf-8")
    text = serving_table(counts)
    SERVING.write_text(with_table(SERVING.read_text(encoding="utf-8"), "served", text), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
