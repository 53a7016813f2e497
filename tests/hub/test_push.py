"""Pushing a checkpoint to a Hub on loopback: what arrives, what is sent again, and what is left when it fails."""

import json
import shutil

import pytest

from hf_zspa.hub.plan import COPIES_BETWEEN_REPOSITORIES
from hub.server import READER, Fault


def local(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def arrived(hub, repository, revision="main"):
    files = hub.files(repository, revision)
    files.pop(".gitattributes", None)
    return files


def uploaded(hub, repository):
    """Bytes of weights that were sent."""
    sent = {path.rpartition("/")[2] for _, path, _ in hub.sent("PUT", f"^/lfs/{repository}/")}
    repo = hub.repos[repository]
    weights = {f.sha256: f for files in repo.commits.values() for n, f in files.items() if n.endswith(".safetensors")}
    return sum(len(file.content) for digest, file in weights.items() if digest in sent)


def test_the_folder_arrives_as_it_is(hub, client, checkpoint, repository):
    done = client.run("push", checkpoint, repository)
    assert done.status == 0, done.err
    assert arrived(hub, repository) == local(checkpoint)
    assert f"{hub.url}/{repository}: commit" in done.out
    assert not hub.repos[repository].private


def test_the_card_pins_the_commit_that_holds_the_weights(hub, client, checkpoint, repository):
    client.run("push", checkpoint, repository)
    repo = hub.repos[repository]
    pinned = [sha for sha in repo.commits if f'revision = "{sha}"' in (checkpoint / "README.md").read_text()]
    (commit,) = pinned
    assert hub.files(repository, commit)["model.safetensors"] == (checkpoint / "model.safetensors").read_bytes()
    assert repo.branches["main"] != commit
    assert f"verify {repository}@{commit}" in (checkpoint / "README.md").read_text()


def test_a_second_push_sends_nothing(hub, client, checkpoint, repository):
    client.run("push", checkpoint, repository)
    commits, hub.requests[:] = len(hub.repos[repository].commits), []
    done = client.run("push", checkpoint, repository)
    assert done.status == 0 and "has all of it already" in done.out
    assert len(hub.repos[repository].commits) == commits
    assert not hub.sent("PUT", ".") and not hub.sent("POST", "/commit/")


def test_a_second_push_sends_only_what_changed(hub, client, checkpoint, repository):
    client.run("push", checkpoint, repository)
    config = json.loads((checkpoint / "config.json").read_text()) | {"zspa_keep_ratio": 0.5}
    (checkpoint / "config.json").write_text(json.dumps(config))
    hub.requests[:] = []
    plan = client.run("push", checkpoint, repository, "--dry-run").out
    assert client.run("push", checkpoint, repository).status == 0
    assert json.loads(arrived(hub, repository)["config.json"])["zspa_keep_ratio"] == 0.5
    assert uploaded(hub, repository) == 0
    lines = {line.split()[0]: line.split()[-1] for line in plan.splitlines()[1:] if line.strip()}
    assert {name for name, action in lines.items() if action == "send"} == {"config.json", "README.md"}
    assert b"it keeps 0.5 of the tokens" in arrived(hub, repository)["README.md"]


def test_a_dry_run_changes_nothing(hub, client, checkpoint, repository):
    before = local(checkpoint)
    done = client.run("push", checkpoint, repository, "--dry-run", token=None)
    assert done.status == 0, done.err
    assert "the repository would be made" in done.out and "model.safetensors" in done.out
    assert repository not in hub.repos and local(checkpoint) == before
    assert {method for method, _, _ in hub.requests} <= {"GET", "HEAD"}


def test_a_private_repository_a_branch_a_message_and_a_tag(hub, client, checkpoint, repository):
    done = client.run("push", checkpoint, repository, "--private", "--message", "first")
    assert done.status == 0 and hub.repos[repository].private
    assert "first" in hub.repos[repository].messages.values()
    (checkpoint / "NOTICE.txt").write_text("a notice")
    done = client.run("push", checkpoint, repository, "--revision", "next", "--tag", "v1")
    assert done.status == 0, done.err
    repo = hub.repos[repository]
    assert repo.tags["v1"] == repo.branches["next"] != repo.branches["main"]
    assert 'revision = "v1"' in arrived(hub, repository, "v1")["README.md"].decode()
    assert "NOTICE.txt" in arrived(hub, repository, "next") and "NOTICE.txt" not in arrived(hub, repository)


def test_a_tag_never_moves(hub, client, checkpoint, repository):
    assert client.run("push", checkpoint, repository, "--tag", "v1").status == 0
    (checkpoint / "NOTICE.txt").write_text("a notice")
    before = dict(hub.repos[repository].branches)
    done = client.run("push", checkpoint, repository, "--tag", "v1")
    assert done.status == 1 and "has the tag v1 already, and a tag never moves: choose another --tag" in done.err
    assert hub.repos[repository].branches == before


def test_a_pull_request_leaves_the_branch(hub, client, checkpoint, repository):
    client.run("push", checkpoint, repository)
    (checkpoint / "NOTICE.txt").write_text("a notice")
    before = arrived(hub, repository)
    done = client.run("push", checkpoint, repository, "--create-pr")
    assert done.status == 0 and "/discussions/1" in done.out, done.err
    assert arrived(hub, repository) == before
    assert arrived(hub, repository, "refs/pr/1")["NOTICE.txt"] == b"a notice"


def test_weights_of_a_base_on_the_hub_are_not_uploaded_again(hub, client, base_checkpoint, tmp_path, repository):
    base = base_checkpoint("llava", sharded=True)
    hub.add("someone/base", local(base) | {"README.md": b"---\nlicense: mit\n---\n"})
    out = tmp_path / "out"
    converted = client.run("convert", "someone/base", out)
    assert converted.status == 0, converted.err
    assert "base_model: someone/base" in (out / "README.md").read_text()
    done = client.run("push", out, repository)
    assert done.status == 0, done.err
    assert arrived(hub, repository) == local(out)
    sent, weights = uploaded(hub, repository), sum(path.stat().st_size for path in out.glob("*.safetensors"))
    assert weights > 0
    if COPIES_BETWEEN_REPOSITORIES:
        assert sent == 0 and f"{weights:,} copied on the Hub" in done.out
    else:
        assert sent == weights


def test_an_unknown_base_is_named(hub, client, checkpoint, repository):
    if not COPIES_BETWEEN_REPOSITORIES:
        return  # it is not looked up
    card = (checkpoint / "README.md").read_text()
    (checkpoint / "README.md").write_text(card.replace("---\n", "---\nbase_model: someone/gone\n", 1))
    done = client.run("push", checkpoint, repository)
    assert done.status == 1 and "README.md says base_model: someone/gone, but the Hub has no such" in done.err
    assert repository not in hub.repos


@pytest.mark.parametrize(
    "token, name, message",
    [
        (None, "org/x", "there is no token to write to the Hub with: run hf auth login"),
        ("hf_wrong", "org/x", "the Hub does not accept the token"),
        (READER, "org/x", "the token has no right to write to org/x"),
        ("hf_writer", "else/x", "the token has no right to write to else/x"),
        ("hf_writer", "org/a/b", "'org/a/b' is no Hub id, it must be like org/name"),
    ],
)
def test_what_is_not_allowed_is_one_line(hub, client, checkpoint, token, name, message):
    before = local(checkpoint)
    done = client.run("push", checkpoint, name, token=token)
    assert done.status == 1 and message in done.err and "Traceback" not in done.err
    assert local(checkpoint) == before and name not in hub.repos


@pytest.mark.parametrize(
    "fault, message",
    [
        (Fault("POST", "/commit/", status=500), "the Hub answered 500"),
        (Fault("POST", "/commit/", status=503), "the Hub answered 503"),
        (Fault("POST", "/commit/", status=412), "has changed meanwhile"),
        (Fault("POST", "/commit/", cut=100), "the connection to the Hub broke"),
        (Fault("PUT", "/lfs/", times=9, cut=20_000), "the connection to the Hub broke"),
        (Fault("POST", "/info/lfs/", times=9, status=500), "the Hub answered 500"),
        (Fault("POST", "/preupload/", status=403), "no right to write"),
    ],
    ids=lambda value: "" if isinstance(value, str) else f"{value.path} {value.status or 'cut'}",
)
def test_after_a_failure_nothing_is_published_and_the_same_push_goes_on(
    hub, client, checkpoint, repository, fault, message
):
    assert client.run("push", checkpoint, repository).status == 0
    published, branches = arrived(hub, repository), dict(hub.repos[repository].branches)
    (checkpoint / "NOTICE.txt").write_text("a notice")
    weights = bytearray((checkpoint / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (checkpoint / "model.safetensors").write_bytes(weights)
    hub.faults.append(fault)
    done = client.run("push", checkpoint, repository)
    assert done.status == 1 and message in done.err and "Traceback" not in done.err, done.err
    assert arrived(hub, repository) == published and hub.repos[repository].branches == branches
    hub.faults.clear()
    hub.requests[:] = []
    stored = len(hub.repos[repository].stored)
    assert client.run("push", checkpoint, repository).status == 0
    assert arrived(hub, repository) == local(checkpoint)
    if "/commit/" in fault.path:  # the weights had arrived
        assert uploaded(hub, repository) == 0 and len(hub.repos[repository].stored) == stored


def test_a_commit_in_between_is_not_overwritten(hub, client, checkpoint, repository):
    """Somebody commits between the look at the repository and the commit."""
    client.run("push", checkpoint, repository)
    (checkpoint / "NOTICE.txt").write_text("a notice")
    repo = hub.repos[repository]
    moved = f"""
from huggingface_hub import HfApi
from hf_zspa.hub.push import Push, Request
from pathlib import Path
push = Push(Request(Path({str(checkpoint)!r}), {repository!r}))
commit = push._commit
def other_first(*arguments):
    HfApi().upload_file(path_or_fileobj=b"theirs", path_in_repo="theirs.txt", repo_id={repository!r})
    return commit(*arguments)
push._commit = other_first
try:
    push.run()
except ValueError as error:
    result = str(error)
"""
    assert "has changed meanwhile" in client.python(moved)
    assert "NOTICE.txt" not in arrived(hub, repository) and arrived(hub, repository)["theirs.txt"] == b"theirs"
    assert client.run("push", checkpoint, repository).status == 0
    assert arrived(hub, repository)["theirs.txt"] == b"theirs" and "NOTICE.txt" in arrived(hub, repository)
    assert repo.branches["main"]


def test_what_others_added_stays_and_code_of_another_version_goes(hub, client, checkpoint, repository):
    client.run("push", checkpoint, repository)
    adds = {"zspa_old.py": b"old", "extra.gguf": b"theirs", "folder/own.py": b"theirs"}
    for name, content in adds.items():
        client.upload(repository, name, content)
    plan = client.run("push", checkpoint, repository, "--dry-run").out.split("\n")
    assert any(line.strip().startswith("zspa_old.py") and line.rstrip().endswith("remove") for line in plan)
    assert any(line.strip().startswith("extra.gguf") and line.rstrip().endswith("stays") for line in plan)
    assert client.run("push", checkpoint, repository).status == 0
    files = arrived(hub, repository)
    assert "zspa_old.py" not in files and files["extra.gguf"] == files["folder/own.py"] == b"theirs"


@pytest.mark.parametrize("side", ["here", "there"])
def test_what_a_person_wrote_in_the_card_stays(hub, client, checkpoint, repository, side):
    client.run("push", checkpoint, repository)
    card = (checkpoint / "README.md").read_text()
    edited = (
        card.replace("# ", "# A title of my own, ", 1).replace("---\n", "---\ndatasets: mine\n", 1) + "\nMy notes.\n"
    )
    edited = edited.replace("# A title of my own, ", "# ", 1)
    if side == "here":
        (checkpoint / "README.md").write_text(edited)
    else:
        client.upload(repository, "README.md", edited.encode())
    (checkpoint / "NOTICE.txt").write_text("a notice")
    done = client.run("push", checkpoint, repository)
    assert done.status == 0, done.err
    now = arrived(hub, repository)["README.md"].decode()
    assert "My notes." in now and "datasets: mine" in now
    assert now == (checkpoint / "README.md").read_text()


def test_cards_that_contradict_each_other_are_left_to_the_person(hub, client, checkpoint, repository):
    client.run("push", checkpoint, repository)
    card = (checkpoint / "README.md").read_text()
    theirs = card + "\nTheir notes.\n"
    client.upload(repository, "README.md", theirs.encode())
    (checkpoint / "README.md").write_text(card + "\nMy notes.\n")
    done = client.run("push", checkpoint, repository)
    assert done.status == 1 and "README.md was changed here and in" in done.err and "its text differs" in done.err
    assert arrived(hub, repository)["README.md"].decode() == theirs
    assert (checkpoint / "README.md").read_text() == card + "\nMy notes.\n"


def test_results_and_a_picture_go_into_the_card(hub, client, checkpoint, repository, tmp_path):
    row = {"task": "pope", "method": "zspa", "keep_ratio": 0.1, "core_ratio": 0.2, "pooling": "mean", "n": 500,
           "metric": "pope_f1_score", "value": 81.234}  # fmt: skip
    rows = [
        row,
        row | {"core_ratio": 0.4, "value": 99.0},
        row | {"method": "original", "keep_ratio": 1.0, "value": 85.0},
    ]
    (tmp_path / "results.json").write_text(json.dumps({"rows": rows}))
    shutil.copy(checkpoint / "kept-tokens.png", tmp_path / "own.png")
    with (tmp_path / "own.png").open("ab") as file:
        file.write(b"another picture")
    options = ["--results", tmp_path / "results.json", "--picture", tmp_path / "own.png"]
    done = client.run("push", checkpoint, repository, *options)
    assert done.status == 0, done.err
    card = arrived(hub, repository)["README.md"].decode()
    assert "| POPE | pope_f1_score, n = 500, all tokens 85.00 | 81.23 |" in card and "99.0" not in card
    assert "Tokens kept by this checkpoint" in card and "![A question" in card
    assert arrived(hub, repository)["kept-tokens.png"] == (tmp_path / "own.png").read_bytes()
    loaded = f"from huggingface_hub import ModelCard\nresult = str(ModelCard.load({repository!r}).data.eval_results)"
    assert "metric_value=81.23" in client.python(loaded)
    (checkpoint / "NOTICE.txt").write_text("a notice")  # a refresh keeps the results
    client.run("push", checkpoint, repository)
    assert "81.23" in arrived(hub, repository)["README.md"].decode()


@pytest.mark.parametrize(
    "options, message",
    [
        (["--create-pr", "--tag", "v1"], "leave it out with --create-pr"),
        (["--results", "nowhere.json"], "nowhere.json is not a results.json of hf-zspa eval"),
        (["--picture", "nowhere.png"], "there is no image file nowhere.png"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused_before_anything_is_asked(
    hub, client, checkpoint, repository, options, message
):
    done = client.run("push", checkpoint, repository, *options)
    assert done.status == 1 and message in done.err and not hub.requests
