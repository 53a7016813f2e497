"""A push to a branch that is not there yet: it is made from the default one, and compared with it."""

import pytest

from hub.contents import arrived, local, pushed_behind_another
from hub.protocol import Fault


@pytest.fixture
def changed(hub, client, checkpoint, repository):
    """The repository of a published checkpoint that has been changed since."""
    assert client.run("push", checkpoint, repository).status == 0
    (checkpoint / "NOTICE.txt").write_text("a notice")
    return hub.repos[repository]


def test_what_people_wrote_in_the_card_of_the_default_branch_stays(hub, client, checkpoint, repository, changed):
    card = arrived(hub, repository)["README.md"] + b"\nMy notes.\n"
    client.upload(repository, "README.md", card)
    client.upload(repository, "zspa_old.py", b"old")
    main = changed.branches["main"]
    done = client.run("push", checkpoint, repository, "--revision", "next")
    assert done.status == 0, done.err
    files = arrived(hub, repository, "next")
    assert files == local(checkpoint) and b"My notes." in files["README.md"]
    assert changed.branches["main"] == main and arrived(hub, repository)["zspa_old.py"] == b"old"


def test_only_what_differs_from_the_default_branch_is_sent(hub, client, checkpoint, repository, changed):
    plan = client.run("push", checkpoint, repository, "--revision", "next", "--dry-run").out
    lines = dict(line.split()[::2] for line in plan.splitlines() if len(line.split()) == 3)
    assert {name for name in lines if lines[name] == "send"} == {"NOTICE.txt", "README.md"}
    assert f"the branch next would be made from {changed.branches['main'][:8]}" in plan
    assert set(changed.branches) == {"main"}


def test_a_branch_of_the_same_files_differs_in_what_its_card_names(hub, client, checkpoint, repository):
    client.run("push", checkpoint, repository)
    repo, main = hub.repos[repository], arrived(hub, repository)
    for options, named in ((["next", "--tag", "v1"], "v1"), (["other"], "other")):
        done = client.run("push", checkpoint, repository, "--revision", *options)
        assert done.status == 0, done.err
        there = arrived(hub, repository, options[0])
        assert {name for name in main if there[name] != main[name]} == {"README.md"}
        assert f'revision = "{named}"'.encode() in there["README.md"]
    assert repo.tags["v1"] == repo.branches["next"]
    assert "has all of it already" in client.run("push", checkpoint, repository, "--revision", "other").out


def test_a_branch_of_a_new_repository(hub, client, checkpoint, repository):
    done = client.run("push", checkpoint, repository, "--revision", "next")
    assert done.status == 0, done.err
    assert arrived(hub, repository, "next") == local(checkpoint) and arrived(hub, repository) == {}


@pytest.mark.parametrize("broken", [{"status": 500}, {"status": 412}, {"cut": 0}], ids=str)
def test_a_branch_that_was_made_for_nothing_is_named_and_used(hub, client, checkpoint, repository, changed, broken):
    hub.faults.append(Fault("POST", "/commit/", **broken))
    done = client.run("push", checkpoint, repository, "--revision", "next")
    assert done.status == 1 and "Nothing was published, but the branch next was made" in done.err, done.err
    assert changed.branches["next"] == changed.branches["main"]
    assert client.run("push", checkpoint, repository, "--revision", "next").status == 0
    assert arrived(hub, repository, "next") == local(checkpoint)


def test_a_branch_whose_commit_landed_without_an_answer_stays(hub, client, checkpoint, repository, changed):
    hub.faults.append(Fault("POST", "/commit/", lost=True))
    done = client.run("push", checkpoint, repository, "--revision", "next")
    assert done.status == 1 and "which may be this one" in done.err
    assert "NOTICE.txt" in arrived(hub, repository, "next")
    assert client.run("push", checkpoint, repository, "--revision", "next").status == 0
    assert arrived(hub, repository, "next") == local(checkpoint)


def test_what_somebody_commits_to_the_new_branch_in_between_stays(hub, client, checkpoint, repository, changed):
    said = pushed_behind_another(client, checkpoint, repository, "next")
    assert "has changed meanwhile" in said and "Nothing was published, but the branch next was made" in said
    assert arrived(hub, repository, "next")["theirs.txt"] == b"theirs"


def test_the_branch_is_made_from_the_commit_it_was_compared_with(hub, client, checkpoint, repository, changed):
    """Somebody commits to the default branch between the look at it and the making of the branch."""
    file = f'path_or_fileobj=b"theirs", path_in_repo="theirs.txt", repo_id={repository!r}'
    do = f"HfApi().upload_file({file})"
    pushed_behind_another(client, checkpoint, repository, "next", before="create_branch", do=do)
    assert arrived(hub, repository, "next") == local(checkpoint)
    assert arrived(hub, repository)["theirs.txt"] == b"theirs"
