"""The paper's benchmarks, end to end on small local data sets of their exact schema, with scores worked out by hand."""

import os
import random

import datasets
import pytest
import tenacity
from benchmark_data import SCHEMAS, gqa, mmmu, pope
from huggingface_hub.errors import LocalTokenNotFoundError
from lmms_eval.api.model import lmms
from lmms_eval.evaluator import simple_evaluate

from hf_zspa.evaluation import sweep
from hf_zspa.evaluation.benchmarks import BENCHMARKS
from hf_zspa.evaluation.cells import make_cell
from hf_zspa.evaluation.lmms_tasks import check_data, chosen_task, data_digest
from hf_zspa.evaluation.scoring import ScoreError, check_against, count_failures, score_of
from hf_zspa.evaluation.sweep import Sweep, _metric_key


class Scripted(lmms):
    """Answers with the field `says` of a script, by question; it keeps the prompts it was asked."""

    is_simple = False

    def __init__(self, answers):
        super().__init__()
        self.answers, self.prompts, self.images, self.batch_size = answers, [], [], 1

    def generate_until(self, requests):
        found = []
        for request in requests:
            _, to_messages, _, doc_id, task, split = request.args
            document = self.task_dict[task][split][doc_id]
            content = to_messages(document)[0]["content"]
            self.prompts.append("".join(part["text"] for part in content if part["type"] == "text"))
            self.images.append([part["url"].size for part in content if part["type"] == "image"])
            found.append(self.answers[document["question"]])
        return found

    def loglikelihood(self, requests):
        raise NotImplementedError

    def generate_until_multi_round(self, requests):
        raise NotImplementedError


@pytest.fixture
def run(manager, tmp_path):
    """Runs a benchmark with scripted answers; gives the model, lmms-eval's results and the score by hand."""
    from argparse import Namespace

    def benchmark(task):
        answers, expected = SCHEMAS[task](tmp_path / "data")
        model = Scripted(answers)
        results = simple_evaluate(
            model=model, tasks=[chosen_task(task, tmp_path / "data", manager)], task_manager=manager, bootstrap_iters=0,
            log_samples=True, cli_args=Namespace(output_path=str(tmp_path / "out"), process_with_media=True),
        )  # fmt: skip
        return model, results, expected

    return benchmark


@pytest.mark.parametrize("task", SCHEMAS)
def test_a_benchmark_scores_right_wrong_odd_and_empty_answers_as_worked_out_by_hand(run, task):
    model, results, expected = run(task)
    key = _metric_key(task, results["results"][task])
    assert 100 * results["results"][task][key] == pytest.approx(expected, abs=1e-3)
    score = score_of(key.split(",")[0], results["samples"][task])
    assert score.value == pytest.approx(expected, abs=1e-3)
    check_against(score, results["results"][task][key])
    assert len(score.per_sample) == len(model.answers)


IMAGES = {"mmmu_val": [1, 1, 2, 1, 1]}  # one per question elsewhere


@pytest.mark.parametrize("task", SCHEMAS)
def test_a_checkpoint_is_pruned_on_each_benchmark_and_its_answers_are_scored(embedded, manager, tmp_path, task):
    answers, _ = SCHEMAS[task](tmp_path / "data")
    sweep = Sweep(embedded, manager, tmp_path / "out", tmp_path / "data")
    measurement = sweep.run(make_cell(task, "zspa", 0.25, core_ratio=0.2, pooling="mean"))
    images = IMAGES.get(task, [1] * len(answers))
    assert [(r.visual_tokens, r.kept_tokens) for r in sorted(embedded.records, key=lambda r: r.doc_id)] == [
        (144 * count, 36 * count) for count in images
    ]
    assert len(measurement.score.per_sample) == len(answers) and measurement.failed == 0
    assert measurement.metric == BENCHMARKS[task].metric


def failing(embedded, monkeypatch, samples):
    """Lets these samples, or all where it is None, fail on the way into the model."""
    inputs = embedded._inputs

    def fail_some(batch, counter):
        if samples is None or any(sample.doc_id in samples for sample in batch):
            raise OSError("no such picture")
        return inputs(batch, counter)

    monkeypatch.setattr(embedded, "on_error", "count")
    monkeypatch.setattr(embedded, "_inputs", fail_some)


def test_a_failed_sample_of_pope_is_a_miss_where_it_is_yes_and_a_false_alarm_where_it_is_no(
    embedded, manager, tmp_path, monkeypatch
):
    pope(tmp_path / "data")
    cell = make_cell("pope", "divprune", 0.25)
    whole = Sweep(embedded, manager, tmp_path / "whole", tmp_path / "data").run(cell)
    failing(embedded, monkeypatch, {1, 4})  # gold yes, gold no
    partly = Sweep(embedded, manager, tmp_path / "partly", tmp_path / "data").run(cell)
    expected = whole.score.per_sample.copy()
    expected[1], expected[4] = [0, 0, 1], [0, 1, 0]
    assert partly.score.per_sample.tolist() == expected.tolist() and partly.failed == 2


@pytest.mark.parametrize("task", SCHEMAS)
def test_where_everything_fails_the_score_is_nothing(embedded, manager, tmp_path, monkeypatch, task):
    SCHEMAS[task](tmp_path / "data")
    failing(embedded, monkeypatch, None)
    measurement = Sweep(embedded, manager, tmp_path, tmp_path / "data").run(make_cell(task, "original", 1))
    assert measurement.score.value == 0 and measurement.failed == len(measurement.documents)


def test_failures_leave_the_other_samples_alone():
    samples = [{"doc_id": i, "exact_match": 1.0} for i in range(4)]
    score = score_of("exact_match", samples)
    assert count_failures(score, "exact_match", samples, {2}).value == 75.0
    assert count_failures(score, "exact_match", samples, set()).value == score.value == 100.0


def test_another_copy_of_a_data_set_is_read_anew_although_its_folder_has_the_same_name(manager, tmp_path):
    for name, keep in (("first", 7), ("second", 3)):
        pope(tmp_path / name)
        if keep < 7:
            (file,) = (tmp_path / name / "POPE" / "data").iterdir()
            datasets.load_dataset("parquet", data_files=str(file), split="train", cache_dir=str(tmp_path)).select(
                range(keep)
            ).to_parquet(file)
        task = chosen_task("pope", tmp_path / name, manager)
        assert len(task.dataset["test"]) == keep
    assert data_digest("pope", tmp_path / "first") != data_digest("pope", tmp_path / "second")
    assert data_digest("pope", None) is None and data_digest("zspa_scenes_chart", tmp_path) is None


def test_every_column_of_the_papers_table_1_is_a_tested_benchmark():
    from hf_zspa.evaluation.paper import COLUMNS, paper_table

    assert {row.column for row in paper_table(1)} == set(COLUMNS)
    assert set(COLUMNS.values()) | {"textvqa_val_ocr"} == set(SCHEMAS) == set(BENCHMARKS)
    assert {BENCHMARKS[task].column for task in COLUMNS.values()} == set(COLUMNS)


def test_gqa_questions_come_with_their_own_image(run):
    model, _, _ = run("gqa")
    assert model.images == [[(30, 20)], [(31, 20)], [(30, 20)], [(31, 20)]]


def test_mmmu_questions_come_with_as_many_images_as_they_name(run):
    model, _, _ = run("mmmu_val")
    assert [len(images) for images in model.images] == [1, 1, 2, 1, 1]


def test_options_that_lmms_eval_draws_on_mmmu_are_the_same_each_time(embedded, manager, tmp_path):
    mmmu(tmp_path / "data", drawn=40)
    scores = []
    for name in ("first", "second"):
        random.seed(name)
        sweep = Sweep(embedded, manager, tmp_path / name, tmp_path / "data")
        scores.append(sweep.run(make_cell("mmmu_val", "original", 1)).score.per_sample.ravel().tolist())
    assert scores[0] == scores[1] and 0 < sum(scores[0][5:]) < 40


def test_ocr_hints_are_in_the_prompt_of_one_textvqa_task_only(run):
    assert all("STOP" in prompt for prompt in run("textvqa_val_ocr")[0].prompts)


def test_without_hints_textvqas_prompt_has_no_ocr_tokens_and_its_submission_stays_in_the_output(run, tmp_path):
    before = set(os.listdir())
    model, _, _ = run("textvqa_val")
    assert not any("STOP" in prompt for prompt in model.prompts)
    assert set(os.listdir()) == before
    assert list((tmp_path / "out" / "submissions").glob("textvqa_submission_*.json"))


def test_missing_local_data_says_what_to_fetch_and_where_to(tmp_path, manager):
    pope(tmp_path)
    with pytest.raises(ValueError, match=r"hf download --repo-type dataset lmms-lab-encoder/GQA --local-dir .*GQA"):
        check_data(["pope", "gqa"], tmp_path, manager)


@pytest.mark.parametrize("left", ["README.md", "data/.gitkeep"])
def test_a_folder_without_data_files_counts_as_missing(tmp_path, manager, left):
    file = tmp_path / "POPE" / left
    file.parent.mkdir(parents=True)
    file.touch()
    with pytest.raises(ValueError, match=r"hf download .*lmms-lab-encoder/POPE"):
        check_data(["pope"], tmp_path, manager)


def saved(data, folder, config=None):
    """Turns a copy of a Hub repository into a `save_to_disk` folder."""
    source = data / "hub" / folder
    datasets.load_dataset(str(source), config, cache_dir=str(data / "cache")).save_to_disk(str(data / folder))


def test_a_folder_of_save_to_disk_is_read_like_a_copy_of_the_repository(tmp_path, manager):
    answers, expected = pope(tmp_path / "hub")
    saved(tmp_path, "POPE")
    check_data(["pope"], tmp_path, manager)
    results = simple_evaluate(
        model=Scripted(answers), tasks=[chosen_task("pope", tmp_path, manager)], task_manager=manager,
        bootstrap_iters=0,
    )  # fmt: skip
    assert 100 * results["results"]["pope"]["pope_f1_score,none"] == pytest.approx(expected)


def test_gqa_of_save_to_disk_lacks_the_images_and_is_refused(tmp_path, manager):
    gqa(tmp_path / "hub")
    saved(tmp_path, "GQA", "testdev_balanced_instructions")
    with pytest.raises(ValueError, match=r"hf download .*lmms-lab-encoder/GQA"):
        check_data(["gqa"], tmp_path, manager)


def test_offline_without_a_copy_says_what_to_fetch(manager):
    with pytest.raises(ValueError, match=r"the Hub is offline.*hf download .*lmms-lab-encoder/ChartQA.*--data DATA"):
        check_data(["chartqa"], None, manager)


@pytest.mark.parametrize(
    ("reason", "message"),
    [
        (LocalTokenNotFoundError("Token is required"), "the data of pope needs a login at the Hub: run hf auth login"),
        (ConnectionError("Couldn't reach 'x'\non the Hub"), r"pope cannot be had from the Hub \(Couldn't reach 'x' on"),
        (KeyError("answer"), None),
    ],
)
def test_data_that_the_hub_does_not_give_is_one_line(embedded, manager, tmp_path, monkeypatch, reason, message):
    @tenacity.retry(stop=tenacity.stop_after_attempt(2))
    def fail(**arguments):
        raise reason

    monkeypatch.setattr(sweep, "simple_evaluate", fail)
    with pytest.raises(ValueError if message else tenacity.RetryError, match=message):
        Sweep(embedded, manager, tmp_path).run(make_cell("pope", "original", 1))


def test_an_unknown_task_is_named_beside_the_papers(manager):
    with pytest.raises(ValueError, match=r"no task pop;.*pope"):
        check_data(["pop"], None, manager)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("textvqa", "textvqa stands for several.*textvqa_val"),
        ("zspa_scenes", "zspa_scenes stands for several.*zspa_scenes_existence"),
        ("public_eval_gpt5_family", "stands for several.*mmmu_val"),
    ],
)
def test_a_name_for_several_tasks_is_refused_and_its_tasks_are_named(manager, name, message):
    with pytest.raises(ValueError, match=message):
        check_data([name], None, manager)


def test_a_task_that_asks_for_no_generated_answer_is_refused(manager):
    with pytest.raises(ValueError, match="seedbench_ppl is a task of multiple_choice, but"):
        check_data(["seedbench_ppl"], None, manager)


def test_local_data_is_refused_for_a_task_that_would_not_read_it(manager, tmp_path):
    pope(tmp_path)
    with pytest.raises(ValueError, match=r"--data has data sets of mmmu_val,.*which mme would not read"):
        check_data(["pope", "mme"], tmp_path, manager)


def test_a_score_that_lmms_eval_does_not_report_is_refused():
    score = score_of("exact_match", [{"exact_match": 1.0}, {"exact_match": 0.0}])
    with pytest.raises(ScoreError, match=r"50\.0.*lmms-eval reports 75\.0"):
        check_against(score, 0.75)
    with pytest.raises(ValueError, match="no number per sample but dict"):
        score_of("submission", [{"submission": {}}])
