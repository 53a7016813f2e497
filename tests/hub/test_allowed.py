"""Which files a checkpoint may hold, and how what it holds is spoken of."""

import errno
import os
from pathlib import Path

import pytest

from hf_zspa.checkpoints.file_policy import problem_of
from hf_zspa.checkpoints.verify import verify_checkpoint
from hub.tampering import put

HARMLESS = [
    "README.md", "LICENSE", "LICENSE.txt", "Notice", "USE_POLICY.md", "Responsible-Use-Guide.pdf", ".gitattributes",
    "results.json", "chat_template.json", "chat_template.jinja", "additional_chat_templates/tool_use.jinja",
    "merges.txt", "vocab.json", "tokenizer.model", "added_tokens.json", "model-00001-of-00002.safetensors",
    "kept-tokens.png", "assets/figure_1.jpeg", "llava-Q4_K_M.gguf", "recipe.yaml", "original/params.json",
]  # fmt: skip
STRANGE = [
    "model.npy", "model.joblib", "app.pyz", "some.whl", "demo.ipynb", "hook.PYW", "model.pt2", "start.sh", "model.onnx",
    "setup.cfg", "Pipfile", "logo.svg", ".env", ".cache/notes.json", "-x.json", "a b.md", "LICENSE.exe",
    "adapter_con\ufb01g.json", "adapter_config\u200c.json", "adapter_config.json.", "custom_generate\\generate.txt",
    "custom_generate./notes.txt", "t\u03bfkenizer.json", "\udcff.json",
]  # fmt: skip


@pytest.mark.parametrize("name", HARMLESS)
def test_a_file_that_may_be_in_a_checkpoint_is_nothing(checkpoint, name):
    (checkpoint / name).parent.mkdir(exist_ok=True)
    if not (checkpoint / name).exists():
        (checkpoint / name).write_text("{}")
    assert verify_checkpoint(checkpoint).passed


@pytest.mark.parametrize("name", STRANGE, ids=ascii)
def test_a_file_that_is_not_on_the_list_is_found(checkpoint, name):
    (checkpoint / name).parent.mkdir(exist_ok=True)
    (checkpoint / name).write_text("{}")
    found = verify_checkpoint(checkpoint)
    assert len(found.problems) == 1 and found.problems[0].isascii() and found.problems[0].isprintable()


def test_what_git_and_the_hubs_client_keep_in_a_folder_is_passed_over(checkpoint):
    for name in (".git/hooks/pre-commit", ".cache/huggingface/download/config.json.metadata"):
        (checkpoint / name).parent.mkdir(parents=True)
        (checkpoint / name).write_text("x")
        assert verify_checkpoint(checkpoint).passed
        assert problem_of(name, in_folder=False)


def test_a_folder_that_cannot_be_listed_is_found(checkpoint, monkeypatch):
    """Of mode 0111, for one: what is in it can be loaded all the same."""
    (checkpoint / "custom_generate").mkdir()
    (checkpoint / "custom_generate" / "generate.py").write_text("print('strange')")
    scandir = os.scandir

    def refused(path):
        if os.fspath(path).endswith("custom_generate"):
            raise PermissionError(errno.EACCES, "Permission denied", os.fspath(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refused)
    (problem,) = verify_checkpoint(checkpoint).problems
    assert problem.startswith("custom_generate cannot be read (Permission denied), so that nobody knows what is in it")


@pytest.mark.parametrize("name", ["generation_config.json", "zspa_prompt.py"])
def test_a_file_that_cannot_be_read_is_found(checkpoint, monkeypatch, name):
    read = Path.read_bytes

    def refused(path):
        if path.name == name and path.parent == checkpoint:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", refused)
    found = verify_checkpoint(checkpoint)
    said = [*found.problems, *(f"{file.name} {file.problem}" for file in found.files if file.problem)]
    assert said == [f"{name} cannot be read: Permission denied"]


def test_what_is_no_file_is_found(checkpoint):
    os.mkfifo(checkpoint / "extra_config.json")
    assert verify_checkpoint(checkpoint).problems == ["extra_config.json is neither a file nor a folder: remove it"]


ERASED = "x\n\x1b[1A\x1b[2Kcheckpoint has the code of hf_zspa, and no other\x1b[8m"


def a_name(folder):
    (folder / f"{ERASED}.py").write_text("x")


def a_name_of_no_code(folder):
    (folder / f"{ERASED}.txt").write_text("x")


def a_key(folder):
    put(folder / "generation_config.json", **{ERASED: {"auto_map": {"A": "b.C"}}})


def half_a_character(folder):
    (folder / "generation_config.json").write_text('{"\\ud800": {"auto_map": {"a": "b"}}}')


def a_digest(folder):
    put(folder / "config.json", zspa_code_sha256={"zspa_prompt.py": ERASED, ERASED: ERASED})


def a_weight(folder):
    put(folder / "model.safetensors.index.json", weight_map={"a": ERASED})


@pytest.mark.parametrize("lie", [a_name, a_name_of_no_code, a_key, half_a_character, a_digest, a_weight])
def test_words_of_a_checkpoint_cannot_take_the_place_of_those_of_verify(client, checkpoint, lie):
    lie(checkpoint)
    done = client.run("verify", checkpoint)
    assert done.status == 1 and done.out.splitlines()[-1].startswith(f"{checkpoint} is not verified"), done.err
    assert all(line.isascii() and line.isprintable() for line in done.out.splitlines())
    assert not any(line.startswith("checkpoint has") for line in done.out.splitlines())
