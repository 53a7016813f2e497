"""Whose code a checkpoint holds, found out without running it."""

import json

import pytest

from hf_zspa.version import __version__


def test_a_conversion_is_verified_here_and_on_the_hub(hub, client, checkpoint, repository):
    assert client.run("push", checkpoint, repository, "--tag", "v1").status == 0
    for what in (checkpoint, repository, f"{repository}@v1"):
        done = client.run("verify", what, token=None)
        assert done.status == 0, done.out
        assert f"has the code of hf_zspa {__version__}, and no other" in done.out
    assert not [r for r in hub.sent("GET", r"\.safetensors$")]


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def tampered_line(folder):
    edit(folder / "zspa_compat.py", "import inspect\n", "import inspect, os\n")


def tampered_end(folder):
    with (folder / "zspa_prompt.py").open("a") as file:
        file.write("print('more')\n")


def tampered_with_its_digest(folder):
    tampered_line(folder)
    import hashlib

    config = json.loads((folder / "config.json").read_text())
    config["zspa_code_sha256"]["zspa_compat.py"] = hashlib.sha256((folder / "zspa_compat.py").read_bytes()).hexdigest()
    (folder / "config.json").write_text(json.dumps(config))


def another_digest(folder):
    edit(folder / "config.json", '"zspa_compat.py": "', '"zspa_compat.py": "0')


def missing_file(folder):
    (folder / "zspa_prompt.py").unlink()


def strange_file(folder):
    (folder / "helper.py").write_text("print('strange')")


def strange_folder(folder):
    (folder / "custom_generate").mkdir()
    (folder / "custom_generate" / "generate.py").write_text("print('strange')")


def auto_map_elsewhere(folder):
    edit(folder / "config.json", '"AutoModel": "modeling_zspa_llava.', '"AutoModel": "else/where--modeling_zspa_llava.')


def tokenizer_code(folder):
    edit(folder / "tokenizer_config.json", "{", '{"auto_map": {"AutoTokenizer": ["a.B", null]},')


def pickle(folder):
    (folder / "pytorch_model.bin").write_bytes(b"x")


TAMPERING = {
    tampered_line: "zspa_compat.py: line 3 is 'import inspect, os', but installed 'import inspect'",
    tampered_end: "is \"print('more')\", but installed ''",
    tampered_with_its_digest: "zspa_compat.py: line 3 is 'import inspect, os', but installed 'import inspect'",
    another_digest: "zspa_compat.py: is as installed, but config.json has 0",
    missing_file: "zspa_prompt.py: is missing",
    strange_file: "helper.py: does not belong to a zspa checkpoint",
    strange_folder: "custom_generate/generate.py: does not belong to a zspa checkpoint",
    auto_map_elsewhere: '"AutoModel": "else/where--modeling_zspa_llava.ZspaLlavaForConditionalGeneration"',
    tokenizer_code: "tokenizer_config.json sends transformers to code of its own",
    pickle: "pytorch_model.bin can run code when it is loaded",
}


@pytest.mark.parametrize("tamper", TAMPERING, ids=lambda function: function.__name__)
def test_tampering_is_found_here_and_on_the_hub_and_not_run(hub, client, checkpoint, repository, tamper):
    tamper(checkpoint)
    hub.add(repository, {p.relative_to(checkpoint).as_posix(): p.read_bytes() for p in checkpoint.rglob("*.*")
                         if p.is_file()})  # fmt: skip
    for what in (checkpoint, repository):
        done = client.run("verify", what)
        assert done.status == 1 and TAMPERING[tamper] in done.out, done.out + done.err
        assert f"{what} is not verified" in done.out and "strange" not in done.out.replace("strange_", "")


def test_a_checkpoint_of_another_version_says_which(client, checkpoint):
    edit(checkpoint / "config.json", f'"zspa_version": "{__version__}"', '"zspa_version": "0.0.9"')
    done = client.run("verify", checkpoint)
    assert done.status == 1 and "pip install hf-zspa==0.0.9" in done.out


@pytest.mark.parametrize(
    "what, message",
    [
        ("org/nowhere", "the Hub has no such repository"),
        ("org/stock", "org/stock is not a zspa checkpoint: there is no code of hf_zspa in it to verify"),
        ("org/stock@v9", "on the Hub it has no revision v9"),
    ],
)
def test_what_cannot_be_verified_is_one_line(hub, client, base_checkpoint, what, message):
    hub.add("org/stock", {path.name: path.read_bytes() for path in base_checkpoint("llava").iterdir()})
    done = client.run("verify", what)
    assert done.status == 1 and message in done.err and "Traceback" not in done.err
