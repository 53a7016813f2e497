"""Pushing a checkpoint to a Hub on loopback: what arrives, what is sent again, and what is refused."""

import json
import shutil

import pytest

from hf_zspa.checkpoints.card import PICTURE, TUNED, pinned_tag, write_card
from hf_zspa.scenes import EXAMPLES
from hub.contents import arrived, local, uploaded


def test_the_folder_arrives_as_it_is(hub, client, checkpoint, repository):
    done = client.run("push", checkpoint, repository)
    assert done.status == 0, done.err
    assert arrived(hub, repository) == local(checkpoint)
    assert f"{hub.url}/{repository}: commit" in done.out
    assert not hub.repos[repository].private


def test_one_commit_holds_all_of_it(hub, client, checkpoint, repository):
    client.run("push", checkpoint, repository)
    assert len(hub.repos[repository].commits) == 2  # the first is made with the repository
    card = arrived(hub, repository)["README.md"].decode()
    assert 'revision = "main"  # better the commit' in card and f"hf-zspa verify {repository}\n" in card


def test_the_card_goes_on_naming_the_tag_until_the_content_changes(hub, client, checkpoint, repository):
    client.run("push", checkpoint, repository, "--tag", "v1")
    commits = len(hub.repos[repository].commits)
    assert "has all of it already" in client.run("push", checkpoint, repository).out
    assert len(hub.repos[repository].commits) == commits
    (checkpoint / "README.md").write_text((checkpoint / "README.md").read_text() + "\nMy notes.\n")
    for _ in range(2):
        assert client.run("push", checkpoint, repository).status == 0
        assert pinned_tag(arrived(hub, repository)["README.md"].decode()) == "v1"
    assert len(hub.repos[repository].commits) == commits + 1
    (checkpoint / "NOTICE.txt").write_text("a notice")
    assert client.run("push", checkpoint, repository).status == 0
    assert pinned_tag(arrived(hub, repository)["README.md"].decode()) is None


def test_a_card_alone_that_is_edited_here_is_sent(hub, client, checkpoint, repository):
    client.run("push", checkpoint, repository)
    (checkpoint / "README.md").write_text((checkpoint / "README.md").read_text() + "\nMy notes.\n")
    done = client.run("push", checkpoint, repository)
    assert done.status == 0 and arrived(hub, repository) == local(checkpoint), done.err
    assert arrived(hub, repository)["README.md"].endswith(b"\nMy notes.\n")


def test_it_is_a_function_too(hub, client, checkpoint, repository):
    found = client.python(f"""
from hf_zspa.hub.push import push_checkpoint
planned = push_checkpoint({str(checkpoint)!r}, {repository!r}, dry_run=True)
done = push_checkpoint({str(checkpoint)!r}, {repository!r}, tag="v1")
again = push_checkpoint({str(checkpoint)!r}, {repository!r}, tag="v1")
sent = [sorted(step.name for step in each.plan.changes) for each in (planned, done, again)]
result = [sent, planned.commit, done.commit, again.commit, done.url]
""")
    sent, *commits, url = found
    assert sent == [sorted(local(checkpoint)), sorted(local(checkpoint)), []] and url == f"{hub.url}/{repository}"
    assert commits == [None, hub.repos[repository].tags["v1"], None]


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
    assert b"it keeps 50 % of the tokens" in arrived(hub, repository)["README.md"]


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
    assert done.status == 1 and "nobody knows which of README.md here and README.md in" in done.err
    assert f"fetch that with hf download {repository} README.md --local-dir" in done.err
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
    shutil.copy(EXAMPLES / "relation.png", tmp_path / "own.png")
    options = ["--results", tmp_path / "results.json", "--picture", tmp_path / "own.png"]
    done = client.run("push", checkpoint, repository, *options)
    assert done.status == 0, done.err
    card = arrived(hub, repository)["README.md"].decode()
    assert "| POPE | pope_f1_score, n = 500, all tokens 85.00 | 81.23 |" in card and "99.0" not in card
    assert "Tokens kept by this checkpoint" in card and "![A question" in card
    drawn = (tmp_path / "own.png").read_bytes()
    assert arrived(hub, repository)[PICTURE] == (checkpoint / PICTURE).read_bytes() == drawn
    loaded = f"from huggingface_hub import ModelCard\nresult = str(ModelCard.load({repository!r}).data.eval_results)"
    assert "metric_value=81.23" in client.python(loaded)
    (checkpoint / "NOTICE.txt").write_text("a notice")  # a refresh keeps the results
    client.run("push", checkpoint, repository)
    assert "81.23" in arrived(hub, repository)["README.md"].decode()


def test_a_picture_that_a_person_drew_into_the_folder_is_shown(hub, client, checkpoint, repository):
    assert client.run("push", checkpoint, repository).status == 0
    assert b"![" not in arrived(hub, repository)["README.md"]
    shutil.copy(EXAMPLES / "relation.png", checkpoint / PICTURE)
    assert client.run("push", checkpoint, repository).status == 0
    assert f"]({PICTURE})\n\nTokens kept by this checkpoint".encode() in arrived(hub, repository)["README.md"]


@pytest.mark.parametrize(
    "options, message",
    [
        (["--create-pr", "--tag", "v1"], "leave it out with --create-pr"),
        (["--results", "nowhere.json"], "nowhere.json cannot be read: No such file or directory; give a results.json"),
        (["--picture", "nowhere.png"], "there is no image file nowhere.png"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused_before_anything_is_asked(
    hub, client, checkpoint, repository, options, message
):
    done = client.run("push", checkpoint, repository, *options)
    assert done.status == 1 and message in done.err and not hub.requests


def test_how_a_checkpoint_was_tuned_goes_into_the_card_that_is_there(hub, client, checkpoint, repository):
    assert client.run("push", checkpoint, repository).status == 0
    card, config = (checkpoint / "README.md").read_text(), json.loads((checkpoint / "config.json").read_text())
    line = f"{TUNED} on 2026-11-29, with 200 rows of its owner's."
    (checkpoint / "README.md").write_text(write_card(config, repository, existing=card, tuned=line))
    (checkpoint / "config.json").write_text(json.dumps(config | {"zspa_keep_ratio": 0.15}))
    done = client.run("push", checkpoint, repository)
    assert done.status == 0, done.err
    assert line in arrived(hub, repository)["README.md"].decode()
