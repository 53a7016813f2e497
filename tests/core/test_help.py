"""The help of commands at the width of a small terminal."""

import re

import pytest
import typer

from hf_zspa import cli
from hf_zspa.bench import measure, shapes
from hf_zspa.pruners.registry import METHODS
from hf_zspa.remote_code.zspa_methods import METHODS as TRAVELLING

COMMANDS = [name for name in typer.main.get_command(cli.app).commands]


@pytest.mark.parametrize(
    ("command", "names"),
    [
        ("eval", METHODS),
        ("tune", TRAVELLING),
        ("bench", measure.METHODS),
        ("bench", [s for s in shapes.SHAPES if not s.endswith("-small")]),
    ],
)
def test_names_are_readable_whole(monkeypatch, capsys, command, names):
    monkeypatch.setattr("sys.argv", ["hf-zspa", command, "--help"])
    for variable in ("COLUMNS", "TERMINAL_WIDTH"):
        monkeypatch.setenv(variable, "80")
    with pytest.raises(SystemExit):
        cli.main()
    shown = " ".join(re.sub("[\u2500-\u257f]", " ", capsys.readouterr().out).split())
    assert not [name for name in names if not re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", shown)]


@pytest.mark.parametrize("command", COMMANDS)
def test_nothing_is_cut_off(monkeypatch, capsys, command):
    monkeypatch.setattr("sys.argv", ["hf-zspa", command, "--help"])
    for variable in ("COLUMNS", "TERMINAL_WIDTH"):
        monkeypatch.setenv(variable, "80")
    with pytest.raises(SystemExit):
        cli.main()
    assert "…" not in capsys.readouterr().out


@pytest.fixture
def shown(monkeypatch, capsys):
    """Runs a command line, and returns its exit status and what it shows, without boxes."""

    def show(*arguments):
        monkeypatch.setattr("sys.argv", ["hf-zspa", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        said = "".join(capsys.readouterr())
        return end.value.code, " ".join(re.sub("[\u2500-\u257f]", " ", said).split())

    return show


@pytest.mark.parametrize("command", ["convert", "push", "verify", "visualize", "bench", "eval", "tune", "app"])
def test_an_option_without_a_value_has_no_type(shown, command):
    assert "<bool>" not in shown(command, "--help")[1].split("--help <bool> Show")[0]


@pytest.mark.parametrize("command", ["convert a b", "visualize a", "demo", "bench embedded"])
@pytest.mark.parametrize("option", ["--keep-ratio", "--core-ratio"])
def test_a_ratio_that_is_no_number_is_named_with_what_would_be(shown, command, option):
    status, said = shown(*command.split(), option, "abc")
    assert status == 2 and f"'{option}': 'abc' is no number; give a share such as 0.1, at most 1" in said


@pytest.mark.parametrize("name, hint", [("konvert", "'convert'"), ("help", ", ".join(COMMANDS))])
def test_an_unknown_command_is_told_which_was_meant_or_which_there_are(shown, name, hint):
    status, said = shown(name)
    assert status == 2 and f"No such command '{name}'" in said and hint in said


@pytest.mark.parametrize("content", ["{", "[1]"])
def test_what_a_preset_looks_like_is_said_where_one_is_none(shown, tmp_path, content):
    (tmp_path / "bad.json").write_text(content)
    status, said = shown("convert", "a", tmp_path / "out", "--preset", tmp_path / "bad.json")
    assert status == 1 and '; a preset is like {"zspa_method": "weighted", "zspa_keep_ratio": 0.1}' in said


def test_a_preset_that_is_no_text_is_named(shown, tmp_path):
    (tmp_path / "street.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    status, said = shown("convert", "a", tmp_path / "out", "--preset", tmp_path / "street.jpg")
    assert status == 1 and "street.jpg is not JSON, which is text in UTF-8: give another file" in said
