"""`hf-zspa app` where the extra `app` is not installed."""

import sys

import pytest

from hf_zspa.cli import main
from hf_zspa.version import install_command


@pytest.mark.parametrize("arguments", [(), ("org/name", "--space", "space")])
def test_without_gradio_the_message_says_what_to_install(monkeypatch, capsys, tmp_path, arguments):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "gradio", None)
    for name in ("serve", "page"):
        monkeypatch.delitem(sys.modules, f"hf_zspa.app.{name}", raising=False)
    monkeypatch.setattr("sys.argv", ["hf-zspa", "app", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 1 and not [*tmp_path.iterdir()]
    assert capsys.readouterr().err == f"hf-zspa: the page needs gradio: {install_command(extra='app')}\n"
