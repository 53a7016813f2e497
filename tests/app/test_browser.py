"""The page in a real browser, as people use it."""

import json
import re
import shutil
import threading
import time
from contextlib import contextmanager

import pytest
from bad_pictures import PICTURES
from conftest import served
from playwright.sync_api import expect, sync_playwright

from hf_zspa.app import answering as module
from hf_zspa.scenes import EXAMPLES

BROWSER = shutil.which("chromium")
pytestmark = pytest.mark.skipif(BROWSER is None, reason="THE PAGE IS NOT TESTED IN A BROWSER: there is no chromium")
SCENES = json.loads((EXAMPLES / "examples.json").read_text("utf-8"))
LIMIT = 60_000  # milliseconds that anything on the page may take


@pytest.fixture(scope="session")
def chromium():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def person(chromium, url, width=1280):
    """A person's own browser, with the page in it; nothing may come from elsewhere."""
    hosts = set()
    context = chromium.new_context(viewport={"width": width, "height": 844})
    context.set_default_timeout(LIMIT)
    context.on("request", lambda request: hosts.add(re.match(r"\w+:(?://[^/:]*)?", request.url)[0]))
    page = context.new_page()
    page.goto(url)
    expect(page.get_by_role("button", name="Ask", exact=True)).to_be_visible(timeout=LIMIT)
    yield page
    context.close()
    assert hosts <= {"http://127.0.0.1", "data:", "blob:http://127.0.0.1"}


@pytest.fixture
def page(chromium, url):
    with person(chromium, url) as opened:
        yield opened


def choose(page, scene):
    """Clicks an example, whose picture is then shown."""
    page.get_by_role("button", name=scene["question"]).click()
    expect(page.locator(f"img[src*='{scene['file']}']")).to_be_visible(timeout=LIMIT)
    expect(page.get_by_label("Question")).to_have_value(scene["question"])


def press_ask(page):
    page.get_by_role("button", name="Ask", exact=True).click()


def answers(page):
    """Both answers, once they are whole."""
    expect(page.locator(".zspa dd").filter(has_text=re.compile(r"\d m?s$"))).to_have_count(4, timeout=LIMIT)
    return page.locator(".zspa article > p").all_inner_texts()


def kept(page):
    return page.get_by_alt_text("Kept tokens").get_attribute("src")


def scrolls_sideways(page):
    return page.evaluate("document.documentElement.scrollWidth > innerWidth")


def test_a_person_chooses_an_example_asks_and_moves_a_slider(page, encoded):
    choose(page, SCENES[2])
    press_ask(page)
    assert answers(page) == [SCENES[2]["answer"]] * 2
    expect(page.get_by_text("14 of 144 tokens kept")).to_be_visible()
    before, runs = kept(page), len(encoded)
    page.get_by_role("slider", name="Keep ratio").press("ArrowRight")
    expect(page.get_by_text("16 of 144 tokens kept")).to_be_visible(timeout=LIMIT)
    expect(page.get_by_text("Ask again for the answer from these.")).to_be_visible()
    assert kept(page) != before and len(encoded) == runs


def test_a_method_shows_its_own_dial_and_draws_what_it_keeps(page):
    choose(page, SCENES[2])
    press_ask(page)
    answers(page)
    core, weight = (page.get_by_role("slider", name=name) for name in ("Core ratio", "Relevance weight"))
    expect(core).to_be_visible()
    for label, dials in (("weighted", (False, True)), ("MMTok's formula", (False, False)), ("zspa", (True, False))):
        before = kept(page)
        page.get_by_label(label, exact=True).check()
        for dial, shown in zip((core, weight), dials):
            expect(dial).to_be_visible(visible=shown, timeout=LIMIT)
        page.wait_for_function("old => document.querySelector(\"img[alt='Kept tokens']\").src != old", arg=before)


def test_an_answer_streams_and_stops(chromium, random, monkeypatch):
    monkeypatch.setattr(module, "NEW_TOKENS", 10_000)
    steps, gate = [], threading.Semaphore(12)

    def one_step(*_):
        steps.append(1)
        assert gate.acquire(timeout=LIMIT / 1000)

    hook = random.model.lm_head.register_forward_hook(one_step)
    with served(random) as url, person(chromium, url) as page:
        choose(page, SCENES[0])
        press_ask(page)
        said = page.locator(".zspa article > p:not(.hint)")
        expect(said).to_have_text(re.compile(r"\w"), timeout=LIMIT)  # one answer, of which the rest is not there yet
        first = said.inner_text()
        gate.release(12)
        expect(said).not_to_have_text(first, timeout=LIMIT)
        assert said.inner_text().startswith(first.partition("\ufffd")[0])
        page.get_by_role("button", name="Stop").click()
        expect(page.get_by_text("stopped")).to_have_count(2, timeout=LIMIT)  # of one the time, the other has no word
        ended = threading.Event()
        random._thread.submit(ended.set)
        while not ended.wait(0.01) and len(steps) < 1000:
            gate.release()
    hook.remove()
    assert len(steps) < 1000


def test_another_picture_leaves_nothing_of_an_answer_that_still_streams(chromium, random, monkeypatch):
    monkeypatch.setattr(module, "NEW_TOKENS", 400)
    hook = random.model.lm_head.register_forward_hook(lambda *_: time.sleep(0.02))
    with served(random) as url, person(chromium, url) as page:
        for scene, other in [(SCENES[0], SCENES[1]), (SCENES[1], SCENES[2]), (SCENES[2], SCENES[0])]:
            choose(page, scene)
            press_ask(page)
            expect(page.locator(".zspa article > p:not(.hint)")).to_have_text(re.compile(r"\w{3}"), timeout=LIMIT)
            choose(page, other)
            expect(page.get_by_text("Choose a picture, ask about it")).to_have_count(2, timeout=LIMIT)
            page.wait_for_timeout(500)
            expect(page.get_by_text("Choose a picture, ask about it")).to_have_count(2)
            assert not page.locator(".zspa img, .zspa dd").count()
    hook.remove()


def test_what_cannot_be_used_is_named_in_a_sentence(page, tmp_path):
    def upload(name, content):
        (tmp_path / name).write_bytes(content)
        page.locator("input[type=file]").set_input_files(tmp_path / name)

    for kind in ("huge", "cut", "text"):
        upload(f"{kind}.png", PICTURES[kind][0])
        said = page.get_by_text(re.compile(f"{kind}.png is .*{PICTURES[kind][1]}"))
        expect(said).to_be_visible(timeout=LIMIT)
        page.get_by_role("button", name="Remove Image").click()
    upload("large.png", bytes(21 << 20))
    expect(page.get_by_text(re.compile("exceed", re.I)).first).to_be_visible(timeout=LIMIT)
    choose(page, SCENES[0])
    page.get_by_label("Question").fill("what is <image> ?")
    press_ask(page)
    answer = page.get_by_role("article")
    expect(answer.get_by_text("'what is <image> ?' has <image> in it")).to_be_visible(timeout=LIMIT)
    page.get_by_label("Question").fill("")
    press_ask(page)
    expect(answer.get_by_text("the question is empty: ask something")).to_be_visible(timeout=LIMIT)
    expect(answer).to_have_count(1)


def test_two_people_at_once_get_their_own_answers(chromium, url):
    with person(chromium, url) as one, person(chromium, url) as two:
        choose(one, SCENES[1])
        choose(two, SCENES[4])
        press_ask(one)
        press_ask(two)
        assert [answers(one)[0], answers(two)[0]] == [SCENES[1]["answer"], SCENES[4]["answer"]]
        assert kept(one) != kept(two)


def test_on_a_telephone_nothing_scrolls_sideways(chromium, url):
    with person(chromium, url, width=390) as page:
        assert not scrolls_sideways(page)
        choose(page, SCENES[2])
        press_ask(page)
        assert answers(page) == [SCENES[2]["answer"]] * 2
        assert not scrolls_sideways(page)
        widths = [box["width"] for box in (part.bounding_box() for part in page.locator(".zspa article").all())]
        assert min(widths) > 300  # one below the other


def test_the_keyboard_alone_is_enough(page):
    def go_to(part, key="Tab"):
        for _ in range(60):
            page.keyboard.press(key)
            if part.evaluate("part => part == document.activeElement"):
                return
        raise AssertionError(f"no way to {part}")

    go_to(page.get_by_role("button", name=SCENES[0]["question"]))
    page.keyboard.press("Enter")
    expect(page.locator(f"img[src*='{SCENES[0]['file']}']")).to_be_visible(timeout=LIMIT)
    go_to(page.get_by_label("Question"), "Shift+Tab")
    page.keyboard.press("Control+A")
    page.keyboard.type("is there a blue star ?")
    go_to(page.get_by_role("button", name="Ask", exact=True))
    page.keyboard.press("Enter")
    assert answers(page) == ["no", "no"]
    go_to(page.get_by_role("slider", name="Keep ratio"))
    before = kept(page)
    page.keyboard.press("ArrowRight")
    page.wait_for_function("old => document.querySelector(\"img[alt='Kept tokens']\").src != old", arg=before)
