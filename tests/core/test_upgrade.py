"""`hf-zspa upgrade` gives a checkpoint of 0.1.0 the installed version's code; `verify` knows what 0.1.0 released."""

import errno
import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from released import PROMPT, of_0_1_0

from hf_zspa import cli
from hf_zspa.checkpoints import code_files, verify
from hf_zspa.checkpoints.families import FAMILIES
from hf_zspa.checkpoints.files import read_json
from hf_zspa.checkpoints.inspect import inspect_checkpoint
from hf_zspa.checkpoints.resolve import checkpoint_folder
from hf_zspa.checkpoints.shipped import SHIPPED
from hf_zspa.checkpoints.upgrade import upgrade_checkpoint
from hf_zspa.checkpoints.verify import verify_checkpoint
from hf_zspa.loading import load_zspa, question_inputs
from hf_zspa.models.given import open_image
from hf_zspa.scenes import EXAMPLES
from hf_zspa.version import __version__


@pytest.fixture
def earlier(tmp_path):
    return of_0_1_0("embedded", tmp_path / "checkpoints")


def test_verify_knows_what_was_released(earlier):
    found = verify_checkpoint(earlier)
    assert found.files and not any(file.problem for file in found.files)
    with (earlier / "zspa_prompt.py").open("a") as file:
        file.write("# changed")
    edited = {file.name: file.problem for file in verify_checkpoint(earlier).files if file.problem}
    assert edited == {"zspa_prompt.py": "is not as it was released"}


def run(monkeypatch, capsys, *arguments):
    monkeypatch.setattr("sys.argv", ["hf-zspa", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return end.value.code, *capsys.readouterr()


def test_a_released_version_is_known_by_its_code(monkeypatch, tmp_path):
    assert ".dev" in __version__ or __version__ in read_json(code_files.RELEASED), "CONTRIBUTING.md: A release"
    noted = tmp_path / "released.json"
    noted.write_bytes(code_files.RELEASED.read_bytes())
    monkeypatch.setattr(code_files, "RELEASED", noted)
    code_files.note_release()
    found = read_json(noted)
    assert found["0.1.0"] == read_json(verify.RELEASED)["0.1.0"]
    monkeypatch.setattr(verify, "RELEASED", noted)  # the version is still compared with what is installed
    edited = checkpoint_folder("embedded")
    copied = shutil.copytree(edited, tmp_path / "edited")
    with (copied / "zspa_prompt.py").open("a") as file:
        file.write("# changed\n")
    (problem,) = [file.problem for file in verify_checkpoint(copied).files if file.problem]
    assert "is '# changed', but installed" in problem
    monkeypatch.undo()
    for family in FAMILIES.values():
        paths = code_files.code_files(family)
        assert code_files.code_digests(paths).items() <= found[__version__].items()
        released = read_json(verify.RELEASED).get(__version__)
        assert released is None or code_files.code_digests(paths).items() <= released.items()


@pytest.mark.parametrize("name", ["embedded", "embedded-qwen"])  # what 0.1.0 had
def test_it_is_brought_up_to_date(name, tmp_path, monkeypatch, capsys):
    earlier = of_0_1_0(name, tmp_path)
    (earlier / ".git").mkdir()
    (earlier / ".git" / "config").write_text("of a clone")
    weights = next(earlier.glob("*.safetensors"))
    before = weights.read_bytes()
    with (earlier / "zspa_prompt.py").open("a") as file:
        file.write("raise RuntimeError('old code was run')")
    edit(earlier, zspa_keep_ratio=0.25)
    (earlier / "README.md").write_text((earlier / "README.md").read_text() + "\nA word of the owner's.\n")
    status, out, _ = run(monkeypatch, capsys, "inspect", earlier)
    assert status == 0 and "written by hf_zspa 0.1.0: hf-zspa upgrade" in " ".join(out.split())

    status, out, err = run(monkeypatch, capsys, "upgrade", earlier)
    assert status == 0 and f"has the code of hf_zspa {__version__} now, in place of that of 0.1.0" in out, err
    assert (earlier / ".git" / "config").read_text() == "of a clone"
    assert weights.read_bytes() == before and weights.stat().st_nlink == 1
    assert not (earlier / "zspa_diversity.py").exists()
    card = (earlier / "README.md").read_text()
    assert "A word of the owner's." in card and "25 %" in card and "# checkpoint" in card
    assert verify_checkpoint(earlier).passed
    fields = inspect_checkpoint(earlier).fields
    assert fields["zspa_keep_ratio"] == 0.25 and fields["zspa_method"] == "zspa"
    model, processor = load_zspa(earlier)
    inputs = question_inputs(model, processor, open_image(EXAMPLES / "relation.png"), PROMPT)
    current, _ = load_zspa(checkpoint_folder(name))
    (kept,) = model.select_visual_tokens(**inputs)
    assert torch.equal(kept, *current.select_visual_tokens(**inputs, zspa_keep_ratio=0.25))

    status, out, _ = run(monkeypatch, capsys, "upgrade", earlier)
    assert status == 0 and "nothing was changed" in out


def edit(folder, **entries):
    path = folder / "config.json"
    path.write_text(json.dumps(read_json(path) | entries))


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: edit(folder, zspa_version="9.0"), "was written by hf_zspa 9.0, a later version than"),
        (lambda folder: edit(folder, zspa_keep_ratio=7), "zspa_keep_ratio is 7, but must be a number in"),
        (lambda folder: (folder / "extra.py").write_text("import os"), "extra.py"),
        (lambda folder: (folder / "README.md").write_bytes(b"\xff\xfe"), "README.md is not UTF-8"),
        (lambda folder: (folder / "model.bin").write_bytes(b"pickle"), "model.bin"),
    ],
)
def test_what_cannot_be_brought_up_to_date_stays_as_it_is(earlier, monkeypatch, capsys, damage, message):
    damage(earlier)
    before = contents(earlier)
    status, _, err = run(monkeypatch, capsys, "upgrade", earlier)
    assert status == 1 and message in err and len(err.strip().splitlines()) == 1
    assert contents(earlier) == before and [path.name for path in earlier.parent.iterdir()] == [earlier.name]


def test_a_full_disk_leaves_what_was_there(earlier, monkeypatch):
    """Where files cannot be linked, they are copied."""

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    before = contents(earlier)
    for name in ("os.link", "transfer"):
        monkeypatch.setattr(f"hf_zspa.checkpoints.upgrade.{name}", full)
    with pytest.raises(ValueError, match=r"No space left on device\), and what was there is unchanged") as found:
        upgrade_checkpoint(earlier)
    assert contents(earlier) == before and len(str(found.value)) < 300


STOPPED = """
import os, pathlib, sys
from hf_zspa.checkpoints.upgrade import upgrade_checkpoint

rename = pathlib.Path.rename

def stopped(path, target):
    pathlib.Path.rename = rename
    path.rename(target)
    {}

pathlib.Path.rename = stopped
upgrade_checkpoint(sys.argv[1])
"""


@pytest.mark.parametrize(("end", "is_there"), [("raise KeyboardInterrupt", True), ("os._exit(9)", False)])
def test_what_is_stopped_when_it_has_moved_the_old_folder_loses_nothing(earlier, monkeypatch, capsys, end, is_there):
    """By Ctrl-C, or killed."""
    earlier = earlier.rename(earlier.with_name("my checkpoint"))
    before = contents(earlier)
    subprocess.run([sys.executable, "-c", STOPPED.format(end), earlier], stderr=subprocess.DEVNULL)
    assert earlier.exists() == is_there
    if not is_there:
        for command in ("inspect", "upgrade"):
            status, _, err = run(monkeypatch, capsys, command, earlier)
            assert status == 1 and f"there is no folder {earlier} any more" in err
        _, left, place = shlex.split(err[err.index("mv ") :])
        Path(left).rename(place)
    assert contents(earlier) == before


def test_no_file_of_the_owners_is_taken_for_code(earlier):
    """What a config says of other files is not heeded: it may be anybody's."""
    digests = read_json(earlier / "config.json")["zspa_code_sha256"]
    others = dict.fromkeys(["model.safetensors", "tokenizer.json", "../config.json"], "0")
    edit(earlier, zspa_code_sha256=digests | others)
    names = {path.name for path in earlier.iterdir()}
    upgrade_checkpoint(earlier)
    now = {path.name for path in earlier.iterdir()}
    assert {name for name in names - now if not name.startswith("zspa_")} == set()
    assert verify_checkpoint(earlier).passed


def test_the_current_folder_and_the_hubs_cache_are_refused(earlier, monkeypatch, tmp_path):
    monkeypatch.chdir(earlier)
    with pytest.raises(ValueError, match="is the current folder, or holds it"):
        upgrade_checkpoint(".")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "snapshots").mkdir()
    cached = earlier.rename(tmp_path / "snapshots" / "abc")
    with pytest.raises(ValueError, match="is in the Hub's cache"):
        upgrade_checkpoint(cached)


def test_a_weight_that_is_a_link_becomes_a_file_of_its_own(earlier, tmp_path):
    weights = next(earlier.glob("*.safetensors"))
    elsewhere = weights.rename(tmp_path / "weights")
    weights.symlink_to(elsewhere)
    before = elsewhere.read_bytes()
    upgrade_checkpoint(earlier)
    assert not weights.is_symlink() and weights.read_bytes() == before and elsewhere.stat().st_nlink == 1


@pytest.mark.parametrize("where", ["org/name", "embedded", "embeded", "base"])
def test_only_the_folder_of_a_converted_checkpoint_is_brought_up_to_date(where):
    messages = {
        "base": f"is not a zspa checkpoint: .*; hf-zspa convert {SHIPPED['embedded']} OUT makes one",
        "embedded": "is inside hf_zspa, and always up to date",
        "embeded": "is brought up to date; did you mean embedded, which is inside hf_zspa",
        "org/name": "org/name is no folder, and only a folder is brought up to date: fetch .* hf download org/name ",
    }
    with pytest.raises(ValueError, match=messages[where]):
        upgrade_checkpoint(SHIPPED["embedded"] if where == "base" else where)
