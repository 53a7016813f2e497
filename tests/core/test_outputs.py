"""What commands write: a full disk leaves what was there and is named, `--json` is one object for a program."""

import errno
import json
import os
import resource
from contextlib import contextmanager

import pytest

from hf_zspa import cli, output
from hf_zspa.checkpoints.convert import convert_checkpoint
from hf_zspa.scenes import CHECKPOINT, EXAMPLES

ASKED = ("--image", EXAMPLES / "relation.png", "--prompt", "what colour is the star ?")
BENCH = ("--limit", 1, "--seconds", 0.1, "--new-tokens", 2, "--methods", "original,zspa", "-o", "out")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return convert_checkpoint(CHECKPOINT, tmp_path_factory.mktemp("zspa") / "scenes")


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """Runs a command line in an empty folder; returns its exit status, stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def run_command(*arguments):
        monkeypatch.setattr("sys.argv", ["hf-zspa", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        return end.value.code or 0, *capsys.readouterr()

    return run_command


@contextmanager
def full_disk(monkeypatch):
    """From the first output on, no more than 100 bytes go into a file; before pytest writes to one, it is over."""
    before, real = resource.getrlimit(resource.RLIMIT_FSIZE), output.tempfile.NamedTemporaryFile

    def open_temporary(*arguments, **options):
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
        return real(*arguments, **options)

    monkeypatch.setattr(output.tempfile, "NamedTemporaryFile", open_temporary)
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["demo.png", "kept.png", "out/results.json"])
def test_a_full_disk_leaves_what_was_there_and_is_named(monkeypatch, run, checkpoint, tmp_path, name):
    (tmp_path / "out").mkdir()
    (tmp_path / name).write_bytes(b"of an earlier run")
    arguments = {
        "demo.png": ("demo", "-o", name),
        "kept.png": ("visualize", checkpoint, *ASKED, "-o", name),
        "out/results.json": ("bench", checkpoint, *BENCH),
    }[name]
    with full_disk(monkeypatch):
        status, _, err = run(*arguments)
    last = err.splitlines()[-1]
    assert (status, last) == (1, f"hf-zspa: {name}: File too large; what was there is unchanged"), err
    assert (tmp_path / name).read_bytes() == b"of an earlier run"
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [name.split("/")[-1]]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_file_that_cannot_be_put_in_place_leaves_the_older_one(monkeypatch, tmp_path, error):
    (tmp_path / "a").write_bytes(b"old")
    monkeypatch.setattr(output.Path, "replace", lambda *_: (_ for _ in ()).throw(error))
    with pytest.raises(type(error)) as caught:
        output.replace_file(tmp_path / "a", b"new")
    assert isinstance(error, KeyboardInterrupt) or caught.value.filename == str(tmp_path / "a")
    assert [path.name for path in tmp_path.iterdir()] == ["a"] and (tmp_path / "a").read_bytes() == b"old"


@pytest.mark.parametrize("mask, mode", [(0o022, 0o644), (0o077, 0o600)])
def test_a_new_file_permits_what_the_user_wants_and_a_replaced_one_what_it_did(tmp_path, mask, mode):
    before = os.umask(mask)
    try:
        output.replace_file(tmp_path / "new", b"new")
        (tmp_path / "old").touch(0o640)
        (tmp_path / "old").chmod(0o640)
        output.replace_file(tmp_path / "old", b"new")
    finally:
        os.umask(before)
    assert [(tmp_path / name).stat().st_mode & 0o777 for name in ("new", "old")] == [mode, 0o640]


def test_demo_speaks_json(run):
    status, out, _ = run("demo", "--json")
    said = json.loads(out)
    assert status == 0 and said["right_answer"] and said["picture"] == "zspa-demo.png"
    assert (said["unpruned"]["tokens"], said["pruned"]["tokens"]) == (said["visual_tokens"], said["kept_tokens"])
    assert len(said["core"]) + len(said["diversity"]) == said["kept_tokens"] == 14


def test_visualize_speaks_json(run, checkpoint):
    status, out, _ = run("visualize", checkpoint, *ASKED, "-o", "made/for/kept.png", "--json")
    said = json.loads(out)
    assert status == 0 and (said["visual_tokens"], said["kept_tokens"], len(said["core"])) == (144, 14, 3)


def test_bench_speaks_json(run, checkpoint, tmp_path):
    status, out, _ = run("bench", checkpoint, *BENCH, "--json")
    assert status == 0 and json.loads(out) == json.loads((tmp_path / "out" / "results.json").read_text())


def test_verify_speaks_json_and_fails_as_ever(run, checkpoint):
    status, out, _ = run("verify", checkpoint, "--json")
    said = json.loads(out)
    assert status == 0 and said["passed"] and not said["problems"]
    code = checkpoint / "zspa_prompt.py"
    original = code.read_bytes()
    code.write_bytes(original + b"#")
    status, out, _ = run("verify", checkpoint, "--json")
    code.write_bytes(original)
    said = json.loads(out)
    assert status == 1 and not said["passed"]
    assert [file["name"] for file in said["files"] if file["problem"]] == ["zspa_prompt.py"]


@pytest.mark.slow
def test_where_the_core_has_no_token_the_question_plays_no_part(run, checkpoint):
    words = "the question plays no part"
    assert words in run("visualize", checkpoint, *ASKED, "-o", "kept.png", "--keep-ratio", 0.01)[1]
    assert words in run("demo", "--keep-ratio", 0.01)[1]
    assert words not in run("demo")[1]


def test_where_one_of_several_files_cannot_be_written_all_are_as_they_were(tmp_path):
    (tmp_path / "a.json").write_bytes(b"of an earlier run")
    with pytest.raises(OSError, match=r"b\.md"):
        output.replace_files({tmp_path / "a.json": b"new", tmp_path / "nowhere" / "b.md": b"new"})
    (tmp_path / "c").mkdir()
    with pytest.raises(OSError, match=r"Is a directory; what was there is unchanged: .*c'"):
        output.replace_files({tmp_path / "a.json": b"new", tmp_path / "c": b"new"})
    assert {path.name for path in tmp_path.iterdir()} == {"a.json", "c"}
    assert (tmp_path / "a.json").read_bytes() == b"of an earlier run"


def test_where_nothing_can_be_printed_standard_output_is_named(monkeypatch, capsys):
    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(cli, "app", full)
    with pytest.raises(SystemExit):
        cli.main()
    assert "standard output: No space left on device" in capsys.readouterr().err
