"""What is typed wrongly is named, with what to type instead, before anything is sent."""

import pytest

from hub.contents import arrived


@pytest.mark.parametrize(
    "name, message",
    [
        ("name", "'name' does not say whose repository it is: give your user name or organization with it, like org/n"),
        ("https://huggingface.co/org/x", "is no Hub id, it must be like org/name"),
        ("org/x@v1", "is no Hub id, it must be like org/name"),
        ("org/x.git", "is no Hub id, it must be like org/name"),
        ("", "is no Hub id, it must be like org/name"),
    ],
)
def test_a_name_that_is_no_repository(hub, client, checkpoint, name, message):
    repositories = set(hub.repos)
    done = client.run("push", checkpoint, name)
    assert done.status == 1 and message in done.err and "Traceback" not in done.err
    assert not hub.requests and set(hub.repos) == repositories


@pytest.mark.parametrize("option", ["--tag", "--revision"])
@pytest.mark.parametrize(
    "name",
    ["", "a b", "..", "v1..2", ".v1", "-x", 'v"1', "v1/", "/v1", "v1.lock", "refs/heads/v1", "v1\n", "é"],
)
def test_a_name_that_is_no_tag_and_no_branch(hub, client, checkpoint, repository, option, name):
    done = client.run("push", checkpoint, repository, f"{option}={name}")
    assert done.status == 1 and f"{option} {name!r} is no name: give" in done.err
    assert "give a new tag, such as v1" in done.err or "give a branch, such as next" in done.err
    assert not hub.requests and repository not in hub.repos


@pytest.mark.parametrize("option", ["--tag", "--revision"])
def test_a_commit_is_no_name(hub, client, checkpoint, repository, option):
    done = client.run("push", checkpoint, repository, option, "0" * 40)
    assert done.status == 1 and f"{option} {'0' * 40} is a commit: give a" in done.err and not hub.requests


@pytest.mark.parametrize("name", ["v1", "1.0", "feature/x", "release-2.0_rc+1"])
def test_usual_names_of_tags_and_branches(hub, client, checkpoint, repository, name):
    done = client.run("push", checkpoint, repository, "--revision", name, "--tag", f"of-{name}")
    assert done.status == 0, done.err
    assert hub.repos[repository].tags[f"of-{name}"] == hub.repos[repository].branches[name]
    assert "has all of it already" in client.run("push", checkpoint, repository, "--revision", name).out


@pytest.mark.parametrize("options", [["--tag", "main"], ["--tag", "HEAD"], ["--tag", "next", "--revision", "next"]])
def test_a_tag_of_the_name_of_the_branch(hub, client, checkpoint, repository, options):
    done = client.run("push", checkpoint, repository, *options)
    assert done.status == 1 and f"--tag {options[1]} would have the name of a branch: give a new tag" in done.err
    assert not hub.requests


def refused(hub, client, checkpoint, repository, message, *options):
    """The push is refused, also by a dry run, and nothing is asked of the Hub but what it has."""
    hub.requests.clear()
    for dry_run in (["--dry-run"], []):
        done = client.run("push", checkpoint, repository, *options, *dry_run)
        assert done.status == 1 and message in done.err, done.err or done.out
    assert {method for method, _, _ in hub.requests} <= {"GET", "HEAD"}


@pytest.fixture
def published(hub, client, checkpoint, repository):
    """A repository of the checkpoint, with the tag v1 and the branch dev; the checkpoint has changed since."""
    assert client.run("push", checkpoint, repository, "--tag", "v1").status == 0
    assert client.run("push", checkpoint, repository, "--revision", "dev").status == 0
    (checkpoint / "NOTICE.txt").write_text("a notice")
    return repository


def test_a_tag_is_no_branch_to_push_to(hub, client, checkpoint, published):
    message = f"v1 is a tag of {published}, which never moves: --revision must name a branch"
    refused(hub, client, checkpoint, published, message, "--revision", "v1")
    assert set(hub.repos[published].branches) == {"main", "dev"}


def test_a_branch_is_no_new_tag(hub, client, checkpoint, published):
    message = f"dev is a branch of {published}: give a new --tag, such as v1"
    refused(hub, client, checkpoint, published, message, "--tag", "dev")


def test_a_commit_is_no_branch_to_push_to(hub, client, checkpoint, published):
    head = hub.repos[published].branches["main"]
    refused(hub, client, checkpoint, published, f"--revision {head} is a commit: give a branch", "--revision", head)


def test_private_is_refused_for_a_public_repository(hub, client, checkpoint, published):
    message = f"{published} is public, and a push does not change that: make it private in its settings on the Hub"
    refused(hub, client, checkpoint, published, message, "--private")
    assert "NOTICE.txt" not in arrived(hub, published)


def test_private_is_no_obstacle_for_a_private_repository(hub, client, checkpoint, repository):
    assert client.run("push", checkpoint, repository, "--private").status == 0
    (checkpoint / "NOTICE.txt").write_text("a notice")
    assert client.run("push", checkpoint, repository, "--private").status == 0
    assert hub.repos[repository].private and "NOTICE.txt" in arrived(hub, repository)


def test_the_hub_of_the_tests_takes_commits_for_branches_alone(hub, client, checkpoint, published):
    head = hub.repos[published].branches["main"]
    for revision in ("v1", head):
        said = client.python(f"""
from huggingface_hub import HfApi
from huggingface_hub.errors import RevisionNotFoundError
try:
    HfApi().upload_file(path_or_fileobj=b"x", path_in_repo="x", repo_id={published!r}, revision={revision!r})
except RevisionNotFoundError:
    result = "refused"
""")
        assert said == "refused"
    assert set(hub.repos[published].branches) == {"main", "dev"}
