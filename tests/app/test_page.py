"""The page as programs see it: its events, called over loopback."""

import json
import os
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.request import Request, urlopen

import gradio
import pytest
from bad_pictures import PICTURE, PICTURES
from conftest import CONNECTED
from gradio_client import Client, handle_file

from hf_zspa.app import page
from hf_zspa.app.markup import panels
from hf_zspa.app.page import DIALS
from hf_zspa.pruners.registry import METHODS
from hf_zspa.remote_code.zspa_config import FIELDS
from hf_zspa.remote_code.zspa_methods import METHODS as TRAVELLING
from hf_zspa.scenes import EXAMPLES

SCENES = {scene["kind"]: scene for scene in json.loads((EXAMPLES / "examples.json").read_text("utf-8"))}
QUESTION = SCENES["relation"]["question"]
CHOICE = (0.1, "zspa", 0.2, 0.75)  # keep ratio, method, and the dials


@pytest.fixture(scope="module")
def person(url):
    return Client(url, verbose=False)


def ask(person, picture=PICTURE, question=QUESTION, choice=CHOICE):
    """Both answers as they end, and what is drawn before they begin."""
    job = person.submit(handle_file(str(picture)), question, *choice, api_name="/ask")
    said, _ = job.result()
    return re.findall(r"</h3><p>(.*?)</p>", said), job.outputs()[0][1], said


def test_both_answers_come_with_what_they_took(person):
    answers, drawn, said = ask(person)
    assert answers == [SCENES["relation"]["answer"]] * 2
    counts = re.findall(r"<dt>visual tokens</dt><dd>(\d+)</dd>", said)
    assert counts == ["144", "14"] and "…" not in said and len(re.findall(r"\d m?s</dd>", said)) == 4
    assert "14 of 144 tokens kept" in drawn


@pytest.mark.parametrize(
    "choice", [(0.3, "zspa", 0.6, 0.75), (0.05, "weighted", 0.2, -0.5), (0.1, "dpp", 0.2, 1), (0.2, "mmtok", 0.2, 0.75)]
)
def test_moved_sliders_draw_what_the_model_would_keep_and_encode_nothing(person, answering, encoded, choice):
    before = ask(person)[1]
    assert len(encoded) == 3  # once to choose from, and in each of the two generations
    drawn = person.predict(*choice, api_name="/redraw")
    assert len(encoded) == 3 and drawn != before
    share, method, core_ratio, weight = choice
    dials = {"core_ratio": core_ratio, "relevance_weight": weight}
    settings = {name: dials[name] for name in METHODS[method].reads if name in dials}
    question = answering.question(str(PICTURE), QUESTION)
    kept = answering.select(question, keep_ratio=share, method=method, **settings)
    assert drawn == panels(question.views, kept, "Ask again for the answer from these.")


def test_the_same_question_again_is_not_encoded_again_to_choose_from(person, encoded):
    ask(person)
    ask(person, choice=(0.2, "weighted", 0.2, 0.5))
    assert len(encoded) == 5


def test_sliders_that_move_before_anything_is_asked_draw_nothing(url):
    assert Client(url, verbose=False).predict(*CHOICE, api_name="/redraw") == ""


def test_people_at_once_are_not_mixed_up(url, answering):
    people = {kind: Client(url, verbose=False) for kind in ("relation", "reading", "chart")}

    def path(kind):
        scene, person = SCENES[kind], people[kind]
        answers, first, _ = ask(person, EXAMPLES / scene["file"], scene["question"], (1, *CHOICE[1:]))
        return answers, first, person.predict(*CHOICE, api_name="/redraw")

    with ThreadPoolExecutor(len(people)) as pool:
        found = dict(zip(people, pool.map(path, people)))
    for kind, (answers, _, drawn) in found.items():
        scene = SCENES[kind]
        question = answering.question(str(EXAMPLES / scene["file"]), scene["question"])
        assert answers == [scene["answer"]] * 2
        assert drawn.startswith(panels(question.views, answering.select(question)).partition("<b>")[0])


@pytest.mark.parametrize("kind", PICTURES)
def test_a_picture_that_cannot_be_used_is_one_sentence_that_names_it(person, tmp_path, kind):
    content, words = PICTURES[kind]
    (tmp_path / "holiday.png").write_bytes(content)
    with pytest.raises(Exception, match=words) as error:
        ask(person, tmp_path / "holiday.png")
    said = str(error.value)
    assert "holiday.png is" in said and "/" not in said and "\n" not in said


@pytest.mark.parametrize(
    ("question", "words"),
    [
        (" ", "the question is empty: ask something"),
        ("what is <image> ?", "stands for what is seen: leave it out"),
        ("how many zebras ?", "without 'how', 'many', 'zebras'"),
    ],
)
def test_a_question_that_cannot_be_asked_is_one_sentence(person, question, words):
    ask(person)
    job = person.submit(handle_file(str(PICTURE)), question, *CHOICE, api_name="/ask")
    with pytest.raises(Exception, match=words):
        job.result()
    (said, drawn) = job.outputs()[-1]
    assert said.count(words) == 1 and "No answer" in said and drawn == ""  # nothing of the question before stays
    assert person.predict(*CHOICE, api_name="/redraw") == ""


def test_what_nobody_thought_of_leaves_no_old_answer(person, answering, monkeypatch):
    ask(person)
    monkeypatch.setattr(answering, "question", lambda *_: 1 / 0)
    job = person.submit(handle_file(str(PICTURE)), QUESTION, *CHOICE, api_name="/ask")
    with pytest.raises(Exception, match="rror"):
        job.result()
    said, drawn = job.outputs()[-1]
    assert "something went wrong, as the log says" in said and drawn == ""


def test_without_a_picture_it_says_what_to_do(person):
    with pytest.raises(Exception, match="there is no picture: upload one, or choose an example"):
        person.predict(None, "what?", *CHOICE, api_name="/ask")


@pytest.mark.parametrize("with_meta", [True, False])
@pytest.mark.parametrize("where", ["a file of the server", "a folder", "nothing", "a link among the uploads", "NUL"])
def test_only_what_was_uploaded_is_opened(url, tmp_path, where, with_meta):
    link = Path(os.environ["GRADIO_TEMP_DIR"]) / "link.png"
    link.unlink(missing_ok=True)
    link.symlink_to(PICTURE)
    places = [str(PICTURE), str(tmp_path), str(tmp_path / "missing.png"), str(link), f"{link.parent}/a\0.png"]
    names = ("a file of the server", "a folder", "nothing", "a link among the uploads", "NUL")
    file = {"path": dict(zip(names, places))[where]} | ({"meta": {"_type": "gradio.FileData"}} if with_meta else {})
    said = asked_by_hand(url, [file, QUESTION, *CHOICE])
    assert "event: error" in said and "image/webp" not in said
    assert with_meta or "this picture was not uploaded here: upload it" in said


def asked_by_hand(url, data):
    """All that the server says to a call of a program that is no client of Gradio's."""
    body = json.dumps({"data": data}).encode()
    call = f"{url.rstrip('/')}/gradio_api/call/ask"
    with urlopen(Request(call, body, {"Content-Type": "application/json"})) as response:
        event = json.load(response)["event_id"]
    with urlopen(f"{call}/{event}") as response:
        return response.read().decode()


def test_uploads_are_removed_and_the_queue_is_bounded(answering):
    built = page.build(answering)
    assert built.delete_cache == (page.HOUR, page.HOUR) and built._queue.max_size == page.WAITING


@pytest.mark.parametrize(("keep_ratio", "step"), [(0.1, 0.01), (0.29, 0.01), (0.125, 0.0005), (0.0625, 0.0005)])
def test_a_slider_can_stand_where_the_checkpoint_says(answering, monkeypatch, keep_ratio, step):
    monkeypatch.setattr(answering.model.config, "zspa_keep_ratio", keep_ratio)
    with gradio.Blocks():
        slider, *_ = page.controls(answering.model.config)
    assert (slider.value, slider.step) == (keep_ratio, step)
    steps = (keep_ratio - slider.minimum) / step  # what a browser rounds
    assert abs(steps - round(steps)) < 1e-6


@pytest.mark.parametrize(
    ("choice", "words"),
    [((2, "zspa", 0.2, 0.75), "zspa_keep_ratio is 2, but must be"), ((0.1, "best", 0.2, 0.75), "zspa_method is")],
)
def test_a_setting_outside_its_range_is_named(person, choice, words):
    with pytest.raises(Exception, match=words):
        ask(person, choice=choice)


def test_a_file_that_is_too_large_is_not_taken(person, tmp_path):
    (tmp_path / "large.png").write_bytes(bytes(21 << 20))
    with pytest.raises(Exception, match=r"413|exceed"):
        ask(person, tmp_path / "large.png")


def test_every_dial_of_a_method_has_a_slider():
    numbers = {name.removeprefix("zspa_") for name, value in FIELDS.items() if isinstance(value, float)}
    assert {*DIALS} == {name for method in TRAVELLING for name in METHODS[method].reads if name in numbers}


def test_the_server_asks_nobody_for_anything(person):
    ask(person)
    assert {"127.0.0.1", "localhost", "::1"} >= CONNECTED
