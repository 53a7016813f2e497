"""The versions that are named are those that are tested: hf_zspa/version.py has the list, nox runs it."""

from pathlib import Path

from hf_zspa.version import TESTED_AT_EVERY_CHANGE, TESTED_TRANSFORMERS

ROOT = Path(__file__).parents[2]


def test_the_documentation_names_the_versions_that_are_tested():
    assert ", ".join(TESTED_TRANSFORMERS) in (ROOT / "README.md").read_text(encoding="utf-8")
    table = (ROOT / "docs" / "compatibility.md").read_text(encoding="utf-8")
    assert f"| transformers | {' | '.join(TESTED_TRANSFORMERS)} |" in table
    assert ", ".join(TESTED_AT_EVERY_CHANGE) in table
    rows = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").splitlines()
    for command, versions in (("make test", TESTED_AT_EVERY_CHANGE), ("make test-all", TESTED_TRANSFORMERS)):
        (row,) = [row for row in rows if row.startswith(f"| `{command}` |")]
        assert f" transformers {', '.join(versions)}" in row


def test_the_oldest_and_the_newest_version_are_tested_at_every_change():
    first, *_, last = TESTED_TRANSFORMERS
    assert {first, last} <= set(TESTED_AT_EVERY_CHANGE) < set(TESTED_TRANSFORMERS)
