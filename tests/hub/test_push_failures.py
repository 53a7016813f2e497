"""What a push that fails says, and that it leaves the repository as it was."""

import pytest

from hf_zspa.checkpoints.card import pinned_tag
from hub.contents import arrived, local, pushed_behind_another, uploaded
from hub.protocol import READER, Fault


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
        (Fault("POST", "/commit/", status=409), "somebody else is changing"),
        (Fault("POST", "/commit/", status=404, code="RevisionNotFound"), "has no branch main: --revision must name"),
        (Fault("POST", "/commit/", status=404, code="RepoNotFound"), "the Hub has no repository"),
        (Fault("POST", "/commit/", status=404), "the Hub refused (404): as the test asked for"),
        (Fault("POST", "/commit/", cut=100), "connection to it broke"),
        (Fault("PUT", "/lfs/", times=9, cut=20_000), "connection to it broke"),
        (Fault("POST", "/info/lfs/", times=9, status=500), "the Hub answered 500"),
        (Fault("POST", "/preupload/", status=403), "no right to write"),
    ],
    ids=lambda value: "" if isinstance(value, str) else f"{value.path} {value.status or 'cut'} {value.code}",
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
    before = local(checkpoint)
    hub.faults.append(fault)
    done = client.run("push", checkpoint, repository)
    assert done.status == 1 and message in done.err and "Traceback" not in done.err, done.err
    assert "Nothing was published" in done.err and local(checkpoint) == before
    assert arrived(hub, repository) == published and hub.repos[repository].branches == branches
    hub.faults.clear()
    hub.requests[:] = []
    stored = len(hub.repos[repository].stored)
    assert client.run("push", checkpoint, repository).status == 0
    assert arrived(hub, repository) == local(checkpoint)
    if "/commit/" in fault.path:  # the weights had arrived
        assert uploaded(hub, repository) == 0 and len(hub.repos[repository].stored) == stored


@pytest.mark.parametrize(
    "fault, options, message",
    [
        (("PUT", "/lfs/"), [], "interrupted. Nothing was published"),
        (("POST", "/commit/"), [], "interrupted. Nothing was published"),
        (("POST", "/tag/"), ["--tag", "v1"], "is published, but the tag v1 may be missing. Run the same command again"),
    ],
)
def test_an_interrupted_push_says_what_it_has_left_and_goes_on(
    hub, client, checkpoint, repository, fault, options, message
):
    hub.faults.append(Fault(*fault, interrupts=client.process))
    done = client.run("push", checkpoint, repository, *options)
    assert done.status == 130 and message in done.err and "Traceback" not in done.err, done.err
    assert client.run("push", checkpoint, repository, *options).status == 0
    assert arrived(hub, repository) == local(checkpoint)
    assert not options or hub.repos[repository].tags["v1"]


def test_a_commit_in_between_is_not_overwritten(hub, client, checkpoint, repository):
    """Somebody commits between the look at the repository and the commit."""
    client.run("push", checkpoint, repository)
    (checkpoint / "NOTICE.txt").write_text("a notice")
    repo = hub.repos[repository]
    assert "has changed meanwhile" in pushed_behind_another(client, checkpoint, repository)
    assert "NOTICE.txt" not in arrived(hub, repository) and arrived(hub, repository)["theirs.txt"] == b"theirs"
    assert client.run("push", checkpoint, repository).status == 0
    assert arrived(hub, repository)["theirs.txt"] == b"theirs" and "NOTICE.txt" in arrived(hub, repository)
    assert repo.branches["main"]


def test_a_repository_that_somebody_makes_in_between_is_not_overwritten(hub, client, checkpoint, repository):
    file = f'path_or_fileobj=b"theirs", path_in_repo="README.md", repo_id={repository!r}'
    do = f"HfApi().create_repo({repository!r}); HfApi().upload_file({file})"
    said = pushed_behind_another(client, checkpoint, repository, before="create_repo", do=do)
    assert f"somebody else is changing {repository}" in said and "You already created this model repo" in said
    assert arrived(hub, repository) == {"README.md": b"theirs"}


@pytest.mark.parametrize("wrong", [{"cut": 0}, {"status": 503}], ids=["cut", "503"])
def test_a_card_that_cannot_be_fetched_is_one_line(hub, client, checkpoint, repository, wrong):
    client.run("push", checkpoint, repository)
    (checkpoint / "NOTICE.txt").write_text("a notice")
    hub.faults += [Fault(method, "/resolve/.*/README.md", times=99, **wrong) for method in ("HEAD", "GET")]
    done = client.run("push", checkpoint, repository)
    assert done.status == 1 and "Nothing was published. Run the same command again" in done.err, done.err


def test_what_was_made_of_a_new_repository_is_said(hub, client, checkpoint, repository):
    hub.faults.append(Fault("POST", "/commit/", status=503))
    done = client.run("push", checkpoint, repository)
    assert done.status == 1
    assert "Nothing was published, but the repository was made. Run the same command again" in done.err
    assert arrived(hub, repository) == {}
    assert client.run("push", checkpoint, repository).status == 0
    assert arrived(hub, repository) == local(checkpoint)


@pytest.mark.parametrize("path, options", [("/api/repos/create", []), ("/branch/next", ["--revision", "next"])])
def test_what_was_made_without_an_answer_is_used_by_the_same_push(hub, client, checkpoint, repository, path, options):
    hub.faults.append(Fault("POST", path, lost=True))
    if options:
        hub.add(repository, {})
    done = client.run("push", checkpoint, repository, *options)
    assert done.status == 1 and "Nothing was published. Run the same command again" in done.err, done.err
    assert repository in hub.repos and ".." not in done.err
    assert client.run("push", checkpoint, repository, *options).status == 0
    assert arrived(hub, repository, options[-1] if options else "main") == local(checkpoint)


@pytest.mark.parametrize("path, options", [("/api/repos/create", []), ("/branch/next", ["--revision", "next"])])
def test_what_the_hub_refused_to_make_was_not_made(hub, client, checkpoint, repository, path, options):
    hub.faults.append(Fault("POST", path, status=403))
    if options:
        hub.add(repository, {})
    done = client.run("push", checkpoint, repository, *options)
    assert done.status == 1 and "no right to write" in done.err and "made" not in done.err
    assert (repository in hub.repos) == bool(options)


def test_a_tag_that_somebody_makes_in_between_is_not_moved(hub, client, checkpoint, repository):
    client.run("push", checkpoint, repository, "--tag", "v1")
    (checkpoint / "NOTICE.txt").write_text("a notice")
    repo = hub.repos[repository]
    theirs = repo.tags["v1"]
    branches = [{"name": "main", "ref": "refs/heads/main", "targetCommit": repo.branches["main"]}]
    hub.faults.append(Fault("GET", "/refs", answer={"branches": branches, "tags": [], "converts": []}))
    done = client.run("push", checkpoint, repository, "--tag", "v1")
    assert done.status == 1 and f"somebody has made the tag v1 of {repository} meanwhile, and a tag never" in done.err
    assert "choose another --tag and push again" in done.err and "Run the same" not in done.err
    assert f"commit {repo.branches['main'][:8]} is published" in done.err and "NOTICE.txt" in arrived(hub, repository)
    assert repo.tags == {"v1": theirs}
    assert client.run("push", checkpoint, repository, "--tag", "v2").status == 0
    assert pinned_tag(arrived(hub, repository)["README.md"].decode()) == "v2"
    assert arrived(hub, repository, "v2") == local(checkpoint)
