"""The page as a Hugging Face Space, and as a command."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from importlib.metadata import version

import pytest
from hub.conftest import started
from hub.server import HubServer
from huggingface_hub import RepoCard
from released import of_0_1_0

from hf_zspa import cli
from hf_zspa.app import serve as module
from hf_zspa.app.space import write_space
from hf_zspa.checkpoints.convert import convert_checkpoint
from hf_zspa.checkpoints.resolve import checkpoint_folder
from hf_zspa.scenes import CHECKPOINT
from hf_zspa.version import requirement


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """A Hub on loopback with repositories of some families, of 0.1.0 and of today, and its client."""
    with HubServer() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for family in ("llava", "smolvlm", "qwen3_vl", "bert"):
            server.add(f"org/{family}", {"config.json": json.dumps({"model_type": family}).encode()})
        old = of_0_1_0("embedded", tmp_path_factory.mktemp("old"))
        now = convert_checkpoint(CHECKPOINT, tmp_path_factory.mktemp("now") / "zspa")
        for name, folder in (("org/old", old), ("org/now", now)):
            server.add(name, {it.name: it.read_bytes() for it in folder.iterdir() if it.suffix in (".json", ".py")})
        with started(server, tmp_path_factory.mktemp("hf-home")) as client:
            yield client
        server.shutdown()


@pytest.mark.parametrize(
    ("family", "needs"),
    [("llava", []), ("now", []), ("smolvlm", ["num2words", "torchvision"]), ("qwen3_vl", ["torchvision"])],
)
def test_a_space_has_the_packages_that_its_checkpoints_processor_needs(hub, tmp_path, family, needs):
    done = hub.run("app", f"org/{family}", "--space", tmp_path / "space")
    assert done.status == 0, done.err
    assert (tmp_path / "space" / "requirements.txt").read_text().split("\n") == [requirement(extra="app"), *needs, ""]


@pytest.mark.parametrize(
    ("name", "words"),
    [("org/old", "hf-zspa upgrade gives a folder the code"), ("org/bert", "'bert', but must be one")],
)
def test_a_space_that_could_not_start_is_not_written(hub, tmp_path, name, words):
    done = hub.run("app", name, "--space", tmp_path / "space")
    assert done.status == 1 and words in done.err and not [*tmp_path.iterdir()]


def test_a_folder_with_earlier_code_makes_a_space_only_if_that_is_trusted(tmp_path):
    earlier = str(of_0_1_0("embedded", tmp_path))
    with pytest.raises(ValueError, match="hf-zspa upgrade"):
        write_space(earlier, tmp_path / "space")
    assert (write_space(earlier, tmp_path / "space", trust_remote_code=True) / "app.py").is_file()


def test_a_space_of_a_hub_id_is_three_files(tmp_path):
    """Of a Hub that is out of reach, too."""
    said = []
    space = write_space("org/name@v1", tmp_path / "space", say=said.append)
    assert {path.name for path in space.iterdir()} == {"app.py", "requirements.txt", "README.md"}
    assert 'launch("org/name@v1")' in (space / "app.py").read_text()
    assert (space / "requirements.txt").read_text() == f"{requirement(extra='app')}\ntorchvision\n"
    assert len(said) == 1 and "requirements.txt has torchvision" in said[0]
    card = RepoCard.load(space / "README.md")
    assert card.data.to_dict() == {
        "title": "hf_zspa: name@v1", "sdk": "gradio", "sdk_version": version("gradio"), "app_file": "app.py",
        "models": ["org/name"], "tags": ["hf_zspa", "visual-token-pruning"],
    }  # fmt: skip
    assert "https://huggingface.co/org/name)" in card.text


def test_a_space_trusts_other_code_only_if_told_to(tmp_path):
    space = write_space("org/name", tmp_path / "space", trust_remote_code=True)
    assert 'launch("org/name", trust_remote_code=True)' in (space / "app.py").read_text()


@pytest.mark.parametrize(
    ("checkpoint", "words"),
    [
        ("no such/place", "there is no folder no such/place, and it is no Hub id"),
        ("./absent", "there is no folder ./absent"),
        (str(CHECKPOINT), "is not a zspa checkpoint: make one with hf-zspa convert"),
    ],
)
def test_what_is_no_checkpoint_leaves_nothing(tmp_path, checkpoint, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        write_space(checkpoint, tmp_path / "space")
    assert not [*tmp_path.iterdir()]


def test_a_space_takes_the_place_of_nothing(tmp_path):
    (tmp_path / "app.py").write_text("mine")
    with pytest.raises(ValueError, match="is not empty: name a new folder"):
        write_space("org/name", tmp_path)
    assert (tmp_path / "app.py").read_text() == "mine"


def test_a_space_that_cannot_be_filled_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("hf_zspa.app.space.transfer", lambda *_: (_ for _ in ()).throw(OSError(28, "disk is full")))
    with pytest.raises(ValueError, match="disk is full"):
        write_space(str(checkpoint_folder("embedded")), tmp_path / "space")
    assert not [*tmp_path.iterdir()]


def test_the_written_space_serves_its_page(tmp_path):
    space = write_space(str(checkpoint_folder("embedded")), tmp_path / "space")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "app.py"], cwd=space, text=True, stdout=subprocess.PIPE,
        env=os.environ | {"GRADIO_SERVER_PORT": str(port), "PYTHONUNBUFFERED": "1"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # it is ignored by what a shell put behind
    )  # fmt: skip
    try:
        line = process.stdout.readline()
        assert line == f"embedded answers at http://127.0.0.1:{port}/ until Ctrl-C\n"
        page = urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=60).read().decode()
        assert "What a question needs of a picture" in page and "**embedded**" in page
        process.send_signal(signal.SIGINT)
        assert process.wait(60) != 0
    finally:
        process.kill()


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs `hf-zspa app` and returns its exit status and what it says."""

    def app(*arguments):
        monkeypatch.setattr("sys.argv", ["hf-zspa", "app", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        return end.value.code or 0, "".join(capsys.readouterr())

    return app


def test_the_command_is_for_this_machine_alone_unless_told_otherwise(run, monkeypatch):
    calls = []
    monkeypatch.setattr("hf_zspa.checkpoints.resolve.checkpoint_folder", lambda *given, **named: None)
    monkeypatch.setattr(module, "launch", lambda *given, **named: calls.append((given, named)))
    run()
    run("org/name", "--host", "0.0.0.0", "--port", 80, "--share", "--trust-remote-code", "--dtype", "float16")
    (first, by_default), (second, asked) = calls
    assert first == ("embedded",) and second == ("org/name",)
    assert (by_default["host"], by_default["share"], by_default["trust_remote_code"]) == ("127.0.0.1", False, False)
    assert (asked["host"], asked["port"], asked["share"], asked["dtype"]) == ("0.0.0.0", 80, True, "float16")


def test_the_command_writes_a_space_and_says_what_next(run, tmp_path):
    status, said = run("org/name", "--space", tmp_path / "space")
    assert status == 0 and f"hf upload ORG/NAME {tmp_path / 'space'} --repo-type space" in said
    assert ("no index has yet" in said) == (" @ " not in requirement())
    status, said = run("org/name", "--space", tmp_path / "space")
    assert status == 1 and "is not empty: name a new folder" in said and said.count("\n") == 1


def test_a_port_that_is_taken_is_one_line(run, answering, monkeypatch):
    monkeypatch.setattr(module, "Answering", lambda *_, **__: answering)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        status, said = run("--port", port)
    assert (
        status == 1 and said.count("\n") == 1 and f"127.0.0.1, port {port}, cannot be listened at: it is taken" in said
    )
