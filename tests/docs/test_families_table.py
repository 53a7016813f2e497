"""The table of families in docs/compatibility.md: what it says was counted, and nothing is left out."""

import importlib.util
import json
from pathlib import Path

import pytest
import tiny

from hf_zspa.checkpoints.families import FAMILIES
from hf_zspa.version import TESTED_TRANSFORMERS

DOCS = Path(__file__).parents[2] / "docs"
specification = importlib.util.spec_from_file_location("families_table", DOCS / "compatibility" / "families.py")
table = importlib.util.module_from_spec(specification)
specification.loader.exec_module(table)

REPORT = """<testsuites><testsuite>
<testcase classname="tests.families.test_family_oracles" name="test_a_video_equals_the_oracles[qwen2_vl]"/>
<testcase classname="tests.families.test_family_oracles" name="test_beams_equal[qwen2_vl-1]"><failure/></testcase>
<testcase classname="tests.families.test_family_oracles" name="test_beams_equal[qwen2_vl-3]"/>
<testcase classname="tests.models.test_modes" name="test_beams_equal[qwen2_vl-3]"/>
</testsuite></testsuites>"""


def test_the_page_has_what_was_counted():
    counts = json.loads(table.COUNTS.read_text(encoding="utf-8"))
    assert counts.keys() == FAMILIES.keys() - {*tiny.FAMILIES}  # the paper's run through tests/models
    page = table.PAGE.read_text(encoding="utf-8")
    assert table.with_tables(page, table.tables(counts, list(TESTED_TRANSFORMERS))) == page


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


@pytest.mark.parametrize("name", ["test_it_is_drawn", "test_compact_is_allowed", "test_a_training_step_has"])
def test_a_mode_is_found_by_the_name_of_its_test(name):
    assert table.mode_of(name) is not None and table.mode_of("test_something_else") is None
