"""A dry run tells the whole truth, and without the Hub as much of it as there is."""

import pytest

from hf_zspa.scenes import EXAMPLES
from hub.contents import local
from hub.protocol import Fault

OPENED = "a pull request would be opened, and the branch would stay as it is"


def said(client, *arguments):
    done = client.run("push", *arguments, "--dry-run")
    assert done.status == 0, done.err
    return done.out


@pytest.mark.parametrize(
    "options, who", [([], "public, for all to see"), (["--private"], "private")], ids=["public", "private"]
)
def test_it_says_who_would_see_it(hub, client, checkpoint, repository, options, who):
    assert f"the repository would be made, and be {who}" in said(client, checkpoint, repository, *options)
    client.run("push", checkpoint, repository, *options)
    assert f"the repository is there, and is {who}" in said(client, checkpoint, repository)


def test_it_tells_of_the_pull_request(hub, client, checkpoint, repository):
    client.run("push", checkpoint, repository)
    assert OPENED not in said(client, checkpoint, repository, "--create-pr")
    (checkpoint / "NOTICE.txt").write_text("a notice")
    out = said(client, checkpoint, repository, "--create-pr")
    assert OPENED in out
    assert OPENED not in said(client, checkpoint, repository)


def test_without_the_hub_it_lists_the_folder(hub, offline, checkpoint):
    before = local(checkpoint)
    done = offline.run("push", checkpoint, "org/x", "--dry-run")
    assert done.status == 0, done.err
    listed = dict(line.split()[:2] for line in done.out.splitlines() if "not compared" in line)
    assert listed == {name: f"{len(content):,}" for name, content in before.items()}
    assert "HF_HUB_OFFLINE is set: the Hub was not asked what org/x has of it" in done.out
    assert not hub.requests and local(checkpoint) == before


def test_where_the_hub_is_out_of_reach_it_lists_the_folder(hub, client, checkpoint, repository):
    hub.faults.append(Fault("GET", f"^/api/models/{repository}$", times=99, cut=0))
    out = said(client, checkpoint, repository)
    assert f"the Hub is out of reach: the Hub was not asked what {repository} has of it" in out
    assert out.count("not compared") == len(local(checkpoint))


def test_without_the_hub_nothing_is_pushed(hub, offline, checkpoint):
    done = offline.run("push", checkpoint, "org/x")
    assert done.status == 1 and "HF_HUB_OFFLINE is set: unset it to publish" in done.err, done.err
    assert not hub.requests


def test_a_torchvision_that_does_not_fit_is_one_line(offline, checkpoint, tmp_path):
    picture = EXAMPLES / "relation.png"
    options = ["--image", picture, "--prompt", "what is it ?", "--output", tmp_path / "out.png"]
    done = offline.run("visualize", checkpoint, *options)
    assert done.status == 1
    assert done.err.startswith(
        "hf-zspa: torchvision and torch do not fit each other (operator torchvision::nms does not exist): pip install "
        '--no-deps "torchvision==0.'
    )
