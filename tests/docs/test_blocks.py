"""What runs the blocks of the documentation notices when one is broken."""

import pytest
import yaml
from blocks import blocks_of, check, run


@pytest.fixture
def page(tmp_path, monkeypatch):
    """A function from the text of a page to its blocks; they run in an empty folder."""

    def write(text: str):
        (tmp_path / "page.md").write_text(text, encoding="utf-8")
        (tmp_path / "empty").mkdir()
        monkeypatch.chdir(tmp_path / "empty")
        return blocks_of(tmp_path / "page.md")

    return write


def fenced(language: str, text: str, mark: str = "") -> str:
    return f"{mark}\n```{language}\n{text}\n```\n"


NOT_RUN = "<!-- not run: needs the 7B weights -->"


def test_python_blocks_share_their_names_and_run_in_order(page):
    run(page(fenced("python", "a = 1") + "text\n" + fenced("python", "assert a == 1\nopen('made', 'w').close()")))


def test_a_broken_python_block_fails_with_its_line_on_the_page(page):
    with pytest.raises(NameError) as failure:
        run(page("# Title\n" + fenced("python", "a = 1\nb = absent")))
    assert failure.traceback[-1].lineno + 1 == 5 and failure.traceback[-1].path.name == "page.md"


def test_a_marked_block_is_not_run_but_compiled(page):
    (block,) = page(fenced("python", "raise ValueError", NOT_RUN))
    run([block])
    check(block)
    assert block.not_run == "needs the 7B weights"


@pytest.mark.parametrize(
    ("language", "text", "words"),
    [
        ("console", "$ hf-zspa convert BASE OUT --keep 0.1", "--keep"),
        ("console", "$ hf-zspa convert BASE OUT --keep-ratio much", "much"),
        ("console", "$ hf-zspa convert BASE", "out"),
        ("console", "$ python -m hf_zspa invent", "no command 'invent'"),
        ("console", "$ make bread", "'bread' is none of"),
        ("console", '$ nox -s lint "bread(5.23.0)"', "'bread' is none of"),
        ("console", "$ python -m hf_zspa.bread", "no module hf_zspa.bread"),
        ("console", "$ python docs/bread.py", "no file docs/bread.py"),
    ],
)
def test_a_command_line_that_cannot_work_fails_even_in_a_marked_block(page, language, text, words):
    (block,) = page(fenced(language, text, NOT_RUN))
    with pytest.raises(AssertionError, match=words):
        check(block)


@pytest.mark.parametrize(
    ("language", "text"),
    [("python", "a = = 1"), ("json", '{"a": 1,}'), ("console", "hf-zspa demo"), ("yaml", "a: b: c")],
)
def test_text_that_is_not_of_its_language_fails_even_in_a_marked_block(page, language, text):
    (block,) = page(fenced(language, text, NOT_RUN))
    with pytest.raises((SyntaxError, ValueError, yaml.YAMLError)):
        check(block)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (fenced("", "hf-zspa demo"), "the language ''"),
        (fenced("rust", "fn main() {}"), "the language 'rust'"),
        ("```python\na = 1\n", "not closed"),
        (fenced("python", "a = 1", "<!-- not run -->"), "the reason"),
        (fenced("python", "a = 1", "<!-- not run:  -->"), "the reason"),
    ],
)
def test_a_page_that_cannot_be_read_fails(page, text, words):
    with pytest.raises(ValueError, match=words):
        page(text)


def test_a_command_that_fails_fails_the_page(page):
    with pytest.raises(AssertionError, match="ended with status 1"):
        run(page(fenced("console", "$ hf-zspa inspect absent")))


def test_another_program_is_refused_without_a_mark(page):
    with pytest.raises(AssertionError, match="only hf-zspa is run here, not pip"):
        run(page(fenced("console", "$ pip install .")))


def test_a_command_runs_on_the_stand_ins_and_prints_what_is_shown(page):
    text = "$ hf-zspa inspect qwen2.5-vl-zspa   # the embedded one\nfamily   llava\nconverted ... yes"
    run(page(fenced("console", text)))


def test_output_that_is_not_printed_fails(page):
    with pytest.raises(AssertionError, match="family qwen"):
        run(page(fenced("console", "$ hf-zspa inspect qwen2.5-vl-zspa\nfamily qwen")))


def test_the_comment_behind_a_print_is_what_is_printed(page):
    run(page(fenced("python", "print(1 + 1)  # 2")))


def test_the_comment_behind_a_print_that_is_not_printed_fails(page):
    with pytest.raises(AssertionError, match="'3' is not in what is printed"):
        run(page(fenced("python", "print(1 + 1)  # 3")))


def test_a_command_goes_on_after_a_backslash(page):
    (block,) = page(fenced("console", "$ hf-zspa convert BASE OUT \\\n    --link", NOT_RUN))
    check(block)
