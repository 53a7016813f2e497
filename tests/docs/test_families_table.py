"""The tables in docs/compatibility.md of what ran: what they say was counted, and nothing is left out."""

import importlib
import json
import re
import sys
from pathlib import Path

import pytest
import tiny

from hf_zspa.checkpoints.families import FAMILIES
from hf_zspa.version import TESTED_TRANSFORMERS

sys.path.append(str(Path(__file__).parents[2] / "docs" / "compatibility"))
table, suites = importlib.import_module("families"), importlib.import_module("suites")

REPORT = """<testsuites><testsuite>
<testcase classname="tests.families.test_family_oracles" name="test_a_video_equals_the_oracles[qwen2_vl]"/>
<testcase classname="tests.families.test_family_oracles" name="test_beams_equal[qwen2_vl-1]"><failure/></testcase>
<testcase classname="tests.families.test_family_oracles" name="test_beams_equal[qwen2_vl-3]"/>
<testcase classname="tests.models.test_modes" name="test_beams_equal[qwen2_vl-3]"/>
</testsuite></testsuites>"""


def test_the_page_has_what_was_counted():
    counts = json.loads(table.COUNTS.read_text(encoding="utf-8"))
    counted = {family for family, versions in counts.items() if {*versions} & {*TESTED_TRANSFORMERS}}
    assert counted == FAMILIES.keys() - {*tiny.FAMILIES}  # the paper's run through tests/models
    page = table.PAGE.read_text(encoding="utf-8")
    assert table.with_table(page, "families", table.tables(counts, list(TESTED_TRANSFORMERS))) == page


def test_the_page_of_serving_has_every_family_that_is_served():
    counts = json.loads(table.COUNTS.read_text(encoding="utf-8"))
    served = {family.model_type for family in FAMILIES.values() if family.vllm}
    in_sixteen_bits = {"qwen3_5"}  # which the page tells apart
    assert {family for family, versions in counts.items() if table.VLLM in versions} == served - in_sixteen_bits
    page = table.SERVING.read_text(encoding="utf-8")
    assert table.with_table(page, "served", table.serving_table(counts)) == page


def test_the_page_has_what_was_found_by_the_suites_of_transformers():
    found = json.loads(suites.FOUND.read_text(encoding="utf-8"))
    page = table.PAGE.read_text(encoding="utf-8")
    assert table.with_table(page, "suites", suites.table(found)) == page
    results = [(keep, result) for families in found.values() for of in families.values() for keep, result in of.items()]
    unlike = [(keep, test, end) for keep, result in results for test, end in result["unlike"].items()]
    assert not [test for keep, test, end in unlike if keep == "1" and end[0] == "passed"]
    reasons = {suites.reason(test, why) for _, test, (_, _, why) in unlike}
    assert reasons <= suites.REASONS.keys()
    assert all(f"*{reason}*:" in page for reason in reasons)


def test_nothing_that_was_counted_failed():
    outcomes = [
        (family, version, mode, outcome)
        for family, versions in json.loads(table.COUNTS.read_text(encoding="utf-8")).items()
        for version, modes in versions.items()
        for mode, counts in modes.items()
        for outcome in counts
    ]
    assert outcomes and {outcome for *_, outcome in outcomes} == {"passed"}


def test_failures_are_counted_as_such(tmp_path):
    (tmp_path / "5.24.0.xml").write_text(REPORT)
    counts = table.counted([tmp_path / "5.24.0.xml"], ["qwen2_vl"])
    assert counts == {"qwen2_vl": {"5.24.0": {"video": {"passed": 1}, "beams": {"failure": 1, "passed": 1}}}}
    assert "| `qwen2_vl` | 2 of 3 |" in table.tables(counts, ["5.24.0"])


@pytest.mark.parametrize(("room", "modes"), [("families", table.MODES), ("vllm", table.SERVED_MODES)])
def test_every_mode_is_that_of_a_test(room, modes):
    """A test that gets another name would silently be counted no more."""
    files = (Path(__file__).parents[1] / room).glob("test_*.py")
    tests = [name for file in files for name in re.findall(r"^def (test_\w+)", file.read_text(), re.MULTILINE)]
    assert [mode for mode in modes if not any(name.startswith(mode) for name in tests)] == []
    assert table.mode_of("test_something_else", modes) is None
