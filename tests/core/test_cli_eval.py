"""`hf-zspa eval` where the extra `eval` is not installed, and what it refuses before anything is loaded."""

import pytest

from hf_zspa.cli import main
from hf_zspa.version import install_command


@pytest.fixture
def fails(monkeypatch, capsys):
    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["hf-zspa", "eval", *arguments])
        with pytest.raises(SystemExit) as exit_status:
            main()
        assert exit_status.value.code == 1
        return capsys.readouterr().err

    return run


def test_without_lmms_eval_the_message_says_what_to_install(fails, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "lmms_eval", None)
    for name in ("command", "benchmarks"):
        monkeypatch.delitem(__import__("sys").modules, f"hf_zspa.evaluation.{name}", raising=False)
    assert f": {install_command(extra='eval')}" in fails("embedded")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--table", "3"), "--table is 3, but must be 1, 2, 4 or tokens (Table 3 is about time"),
        (("--table", "7"), "--table is 7, but must be 1, 2, 4 or tokens\n"),
    ],
)
def test_a_table_that_is_not_measured_here_is_refused(fails, arguments, message):
    assert message in fails("embedded", *arguments)
