"""The help of commands at the width of a small terminal."""

import re

import pytest

from hf_zspa import cli
from hf_zspa.bench import measure, shapes
from hf_zspa.pruners.registry import METHODS


@pytest.mark.parametrize(
    ("command", "names"),
    [("eval", METHODS), ("bench", measure.METHODS), ("bench", [s for s in shapes.SHAPES if not s.endswith("-small")])],
)
def test_names_are_readable_whole(monkeypatch, capsys, command, names):
    monkeypatch.setattr("sys.argv", ["hf-zspa", command, "--help"])
    for variable in ("COLUMNS", "TERMINAL_WIDTH"):
        monkeypatch.setenv(variable, "80")
    with pytest.raises(SystemExit):
        cli.main()
    shown = " ".join(re.sub("[\u2500-\u257f]", " ", capsys.readouterr().out).split())
    assert not [name for name in names if not re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", shown)]
