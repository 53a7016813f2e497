"""The shipped checkpoints are converted into a cache at their first use, and never out of date."""

import errno
import os
import shutil

import pytest
from huggingface_hub import constants

from hf_zspa.checkpoints import code_files, shipped
from hf_zspa.checkpoints.resolve import checkpoint_folder


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    """An empty cache."""
    monkeypatch.setattr(constants, "HF_ASSETS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def remote_code(monkeypatch, tmp_path):
    """A copy of the code that travels, to change."""
    copy = shutil.copytree(code_files.REMOTE_CODE, tmp_path / "remote_code")
    monkeypatch.setattr(code_files, "REMOTE_CODE", copy)
    return copy


def test_the_second_use_takes_what_the_first_made(cache, monkeypatch):
    first = checkpoint_folder("embedded")
    assert first.is_relative_to(cache) and [path.name for path in first.parent.iterdir()] == ["embedded"]
    monkeypatch.setattr(shipped, "_make", None)
    assert checkpoint_folder("embedded") == first


@pytest.mark.parametrize("name", shipped.SHIPPED)
def test_changed_code_is_converted_anew(remote_code, name):
    before = checkpoint_folder(name)
    file = remote_code / "zspa_selection.py"
    file.write_text(file.read_text("utf-8") + "# changed\n", "utf-8")
    after = checkpoint_folder(name)
    assert (after / file.name).read_bytes() == file.read_bytes() != (before / file.name).read_bytes()


def test_a_changed_base_or_version_is_converted_anew(monkeypatch, tmp_path):
    base = shutil.copytree(shipped.SHIPPED["embedded"], tmp_path / "base")
    monkeypatch.setitem(shipped.SHIPPED, "embedded", base)
    found = {checkpoint_folder("embedded")}
    for name in ("config.json", "chat_template.jinja"):
        (base / name).write_text((base / name).read_text("utf-8") + " \n", "utf-8")
        found.add(checkpoint_folder("embedded"))
    monkeypatch.setattr(shipped, "__version__", "9.9.9")
    found.add(checkpoint_folder("embedded"))
    assert len(found) == 4


def test_what_nobody_has_used_for_a_week_makes_room_for_a_new_copy(remote_code):
    kept = checkpoint_folder("embedded").parent
    old, killed = kept.with_name("0123456789abcdef"), kept / ".half"
    for folder in (old, killed):
        folder.mkdir()
        (folder / "config.json").touch()
        os.utime(folder, (0, 0))
    os.utime(kept, (0, 0))
    checkpoint_folder("embedded")  # which is used again
    (remote_code / "zspa_selection.py").write_text("# changed\n")
    new = checkpoint_folder("embedded").parent
    assert new != kept and {*kept.parent.iterdir()} == {new, kept} and not killed.exists()


def test_what_lost_a_file_is_made_again():
    folder = checkpoint_folder("embedded")
    (folder / "model.safetensors").unlink()
    assert checkpoint_folder("embedded") == folder and (folder / "model.safetensors").is_file()
    assert [path.name for path in folder.parent.iterdir()] == ["embedded"]


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "zspa_prompt.py"])
def test_what_was_cut_short_is_made_again(name):
    folder = checkpoint_folder("embedded")
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(b"")
    assert checkpoint_folder("embedded") == folder and (folder / name).read_bytes() == whole


def test_what_is_not_whole_may_be_taken_away_by_another_process_meanwhile(monkeypatch):
    folder = checkpoint_folder("embedded")
    (folder / "config.json").unlink()
    rename = shipped.Path.rename

    def taken_away(path, target):
        if target.name == "incomplete":
            shutil.rmtree(path)
        return rename(path, target)

    monkeypatch.setattr(shipped.Path, "rename", taken_away)
    assert checkpoint_folder("embedded") == folder and (folder / "config.json").is_file()


def test_of_two_processes_at_once_the_first_makes_it_for_both(monkeypatch):
    write, made = shipped.write_weights, []

    def overtaken(*arguments):
        monkeypatch.setattr(shipped, "write_weights", write)
        made.append(checkpoint_folder("embedded").stat().st_ino)  # the other process, from its beginning to its end
        write(*arguments)

    monkeypatch.setattr(shipped, "write_weights", overtaken)
    folder = checkpoint_folder("embedded")
    assert made == [folder.stat().st_ino] and [path.name for path in folder.parent.iterdir()] == ["embedded"]


def test_a_full_disk_is_told_and_leaves_nothing(cache, monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(shipped, "write_weights", full)
    with pytest.raises(ValueError, match=rf"{cache} cannot be written to \(No space left.*set HF_HOME, or HF_ASSETS"):
        checkpoint_folder("embedded")
    assert not [path for path in cache.rglob("*") if path.is_file()]


@pytest.mark.parametrize("place", ["file", "file/below", "/proc/nowhere"])
def test_a_cache_that_cannot_be_made_is_told(monkeypatch, tmp_path, place):
    (tmp_path / "file").touch()
    monkeypatch.setattr(constants, "HF_ASSETS_CACHE", str(tmp_path / place))
    with pytest.raises(ValueError, match=f"embedded is converted at its first use, but .*{place} cannot be written"):
        checkpoint_folder("embedded")
