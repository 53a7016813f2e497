"""Weights that the base's repository holds are copied on the Hub; where they cannot be, they are uploaded."""

import json

import pytest

from hf_zspa.checkpoints.code_files import digest
from hf_zspa.hub.copies import COPIES_BETWEEN_REPOSITORIES
from hub.contents import arrived, local, pushed_behind_another, uploaded
from hub.protocol import Fault
from hub.repositories import File

needs_copies = pytest.mark.skipif(
    not COPIES_BETWEEN_REPOSITORIES, reason="this huggingface_hub cannot copy from one repository to another"
)


def size_of_weights(folder):
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))


def name_base(checkpoint, base):
    card = (checkpoint / "README.md").read_text()
    (checkpoint / "README.md").write_text(card.replace("---\n", f"---\nbase_model: {base}\n", 1))


@pytest.fixture
def base(hub, checkpoint, repository):
    """A base on the Hub, which the card names, with the checkpoint's weights."""
    name = f"someone/base-of-{repository.rpartition('/')[2]}"
    hub.add(name, {"model.safetensors": (checkpoint / "model.safetensors").read_bytes()})
    name_base(checkpoint, name)
    return name


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
    weights = size_of_weights(out)
    if COPIES_BETWEEN_REPOSITORIES:
        assert uploaded(hub, repository) == 0 and f"{weights:,} copied on the Hub" in done.out
    else:
        assert uploaded(hub, repository) == weights > 0


@needs_copies
def test_the_base_is_asked_only_where_weights_must_be_sent(hub, client, checkpoint, repository, base):
    assert client.run("push", checkpoint, repository).status == 0
    assert [path for _, path, _ in hub.requests if base in path]
    config = json.loads((checkpoint / "config.json").read_text()) | {"zspa_keep_ratio": 0.5}
    (checkpoint / "config.json").write_text(json.dumps(config))
    hub.requests[:] = []
    assert client.run("push", checkpoint, repository).status == 0
    assert not [path for _, path, _ in hub.requests if base in path]


FAILED = {"success": [], "failed": [{"sha256": "0", "error": "another storage region"}]}


@needs_copies
@pytest.mark.parametrize(
    "method, path, wrong, message",
    [
        ("GET", "/tree/", {"status": 404, "code": "RepoNotFound"}, "the Hub said"),
        ("GET", "/tree/", {"status": 403, "code": "GatedRepo"}, "the Hub said"),
        ("GET", "/tree/", {"status": 403}, "the Hub said"),
        ("POST", "/paths-info/", {"status": 403, "code": "GatedRepo"}, "could not copy the weights"),
        ("POST", "/paths-info/", {"answer": []}, "could not copy the weights"),
        ("POST", "/lfs-files/duplicate", {"status": 403}, "could not copy the weights"),
        ("POST", "/lfs-files/duplicate", {"status": 500}, "could not copy the weights"),
        ("POST", "/lfs-files/duplicate", {"answer": FAILED}, "another storage region"),
    ],
    ids=str,
)
def test_what_cannot_be_copied_is_uploaded(hub, client, checkpoint, repository, base, method, path, wrong, message):
    hub.faults.append(Fault(method, f"/{base}{path}", times=9, **wrong))
    done = client.run("push", checkpoint, repository)
    assert done.status == 0, done.err
    assert message in done.out and "uploaded" in done.out
    weights = size_of_weights(checkpoint)
    assert uploaded(hub, repository) == weights and " 0 copied on the Hub" in done.out
    assert arrived(hub, repository) == local(checkpoint)


@needs_copies
def test_an_unknown_base_is_named_and_its_weights_are_uploaded(hub, client, checkpoint, repository):
    name_base(checkpoint, "someone/gone")
    plan = client.run("push", checkpoint, repository, "--dry-run")
    done = client.run("push", checkpoint, repository)
    for said in (plan, done):
        assert said.status == 0, said.err
        assert "README.md says base_model: someone/gone, but the Hub said" in said.out
    assert uploaded(hub, repository) == size_of_weights(checkpoint)


def test_a_base_that_is_no_hub_id_is_refused_before_anything_is_sent(hub, client, checkpoint, repository):
    name_base(checkpoint, "./models/llava")
    done = client.run("push", checkpoint, repository)
    assert done.status == 1 and "README.md says base_model: ./models/llava, which is no Hub id" in done.err
    assert repository not in hub.repos


@needs_copies
@pytest.mark.parametrize(
    "fault, message",
    [
        (Fault("POST", "/commit/", status=403), "no right to write"),
        (Fault("POST", "/commit/", status=500), "the Hub answered 500"),
        (Fault("POST", "/lfs-files/duplicate", cut=0), "connection to it broke"),
    ],
    ids=["403", "500", "cut"],
)
def test_another_failure_is_no_reason_to_upload(hub, client, checkpoint, repository, base, fault, message):
    hub.faults.append(fault)
    done = client.run("push", checkpoint, repository)
    assert done.status == 1 and message in done.err and "uploaded" not in done.out
    assert not hub.sent("PUT", digest((checkpoint / "model.safetensors").read_bytes()))
    assert client.run("push", checkpoint, repository).status == 0
    assert uploaded(hub, repository) == 0 and arrived(hub, repository) == local(checkpoint)


@needs_copies
def test_what_is_copied_is_of_the_commit_that_was_compared(hub, client, checkpoint, repository):
    """The base moves between the look at it and the commit."""
    weights = (checkpoint / "model.safetensors").read_bytes()
    hub.add("org/moving-base", {"model.safetensors": weights})
    name_base(checkpoint, "org/moving-base")
    file = 'path_or_fileobj=b"others", path_in_repo="model.safetensors", repo_id="org/moving-base"'
    pushed_behind_another(client, checkpoint, repository, do=f"HfApi().upload_file({file})")
    assert hub.files("org/moving-base")["model.safetensors"] == b"others"
    assert arrived(hub, repository)["model.safetensors"] == weights and uploaded(hub, repository) == 0


@needs_copies
def test_a_base_of_other_weights_is_named_and_its_commit(hub, client, checkpoint, repository, base):
    commit = hub.repos[base].commit({"model.safetensors": File(b"others", True)}, "main", "another training")
    for options in (["--dry-run"], []):
        done = client.run("push", checkpoint, repository, *options)
        said = f"base_model: {base}, but its commit {commit[:8]}, the newest, has no model.safetensors of this content"
        assert done.status == 0 and said in done.out and "the weights are uploaded instead" in done.out
    assert uploaded(hub, repository) == size_of_weights(checkpoint)


@needs_copies
@pytest.mark.parametrize("form", ["[{}]", "\n- {}"])
def test_a_list_of_one_base_is_copied_from(hub, client, checkpoint, repository, base, form):
    card = (checkpoint / "README.md").read_text()
    (checkpoint / "README.md").write_text(card.replace(f"base_model: {base}", f"base_model: {form.format(base)}"))
    done = client.run("push", checkpoint, repository)
    assert done.status == 0 and uploaded(hub, repository) == 0, done.err
    assert arrived(hub, repository) == local(checkpoint)


def test_several_bases_are_said_to_be_no_source(hub, client, checkpoint, repository, base):
    card = (checkpoint / "README.md").read_text()
    (checkpoint / "README.md").write_text(card.replace(f"base_model: {base}", f"base_model: [{base}, someone/else]"))
    done = client.run("push", checkpoint, repository)
    assert done.status == 0 and "README.md names 2 bases, and weights are copied from one alone" in done.out, done.err
    assert uploaded(hub, repository) == size_of_weights(checkpoint)


@pytest.mark.skipif(COPIES_BETWEEN_REPOSITORIES, reason="this huggingface_hub can copy from one repository to another")
def test_a_huggingface_hub_that_cannot_copy_is_named(hub, client, checkpoint, repository, base):
    done = client.run("push", checkpoint, repository)
    assert done.status == 0 and f"base_model: {base}, but huggingface_hub 0." in done.out, done.out
    assert "copies nothing: the weights are uploaded" in done.out


@pytest.mark.parametrize("name", ["5", "[a/b, 5]", "{a: b}"])
def test_a_base_that_is_no_text_is_refused(hub, client, checkpoint, repository, name):
    name_base(checkpoint, name)
    done = client.run("push", checkpoint, repository)
    assert done.status == 1 and "must have one word or a list of words as base_model" in done.err, done.err
    assert repository not in hub.repos
