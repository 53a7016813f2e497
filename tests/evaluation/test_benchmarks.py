"""The paper's benchmarks, end to end on small local data sets of their exact schema, with scores worked out by hand."""

import os

import datasets
import pytest
from lmms_eval.api.model import lmms
from lmms_eval.evaluator import simple_evaluate
from PIL import Image

from hf_zspa.evaluation.benchmarks import BENCHMARKS, check_data, chosen_task, data_digest
from hf_zspa.evaluation.cells import make_cell
from hf_zspa.evaluation.scoring import ScoreError, check_against, count_failures, score_of
from hf_zspa.evaluation.sweep import Sweep, _metric_key

PICTURE = datasets.Image()
TEXT, TEXTS = datasets.Value("string"), datasets.Sequence(datasets.Value("string"))


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


def picture(width):
    return Image.new("RGB", (width, 20), (90, 120, 30))


def write(folder, split, rows, features, config="default", subfolder="data"):
    """A copy of a Hub repository: parquet files, and a README that says which split of which config they are."""
    rows = {name: [row[name] for row in rows] for name in features}
    (folder / subfolder).mkdir(parents=True)
    data = datasets.Dataset.from_dict(rows, features=datasets.Features(features))
    data.to_parquet(folder / subfolder / f"{split}-00000-of-00001.parquet")
    readme = folder / "README.md"
    before = readme.read_text().removesuffix("---\n") if readme.exists() else "---\nconfigs:\n"
    entry = f"- config_name: {config}\n  data_files:\n  - split: {split}\n    path: {subfolder}/{split}-*\n"
    readme.write_text(f"{before}{entry}---\n")


def pope(data):
    # True positives 2, false positive 1, false negative 1; "Yes." and "" are neither: F1 = 4 / 6.
    rows = [
        ("is there a dog ?", "yes", "yes"), ("is there a cat ?", "yes", " YES "), ("is there a cow ?", "yes", "No"),
        ("is there a hat ?", "no", "Yes"), ("is there a car ?", "no", "no"), ("is there a cup ?", "yes", "Yes."),
        ("is there a pen ?", "no", ""),
    ]  # fmt: skip
    columns = ("id", "question_id", "question", "answer", "image_source", "category")
    documents = [
        dict(zip(columns, (str(i), str(i), question, answer, "coco", "random"))) | {"image": picture(20 + i)}
        for i, (question, answer, _) in enumerate(rows)
    ]
    write(data / "POPE", "test", documents, dict.fromkeys(columns, TEXT) | {"image": PICTURE})
    return {question: said for question, _, said in rows}, 400 / 6


def gqa(data):
    # Case and punctuation are ignored, more words are not: 2 of 4.
    rows = [("where is it ?", "left", "Left."), ("what is it ?", "dog", "dog"),
            ("who is it ?", "man", "the man"), ("which is it ?", "red", "")]  # fmt: skip
    documents = [
        {"id": str(i), "imageId": f"n{i % 2}", "question": question, "answer": answer}
        for i, (question, answer, _) in enumerate(rows)
    ]
    features = dict.fromkeys(("id", "imageId", "question", "answer"), TEXT)
    name = "testdev_balanced_instructions"
    write(data / "GQA", "testdev", documents, features, name, name)
    images = [{"id": "n0", "image": picture(30)}, {"id": "n1", "image": picture(31)}]
    name = "testdev_balanced_images"
    write(data / "GQA", "testdev", images, {"id": TEXT, "image": PICTURE}, name, name)
    return {question: said for question, _, said in rows}, 50.0


def ai2d(data):
    # The letter, alone or with a full stop and text behind it; the option's text is not taken: 2 of 4.
    rows = [("what eats it ?", "B"), ("what is A ?", "B. leaf"), ("what is B ?", "leaf"), ("what is C ?", "")]
    documents = [
        {"question": question, "options": ["root", "leaf", "stem"], "answer": "1", "image": picture(25)}
        for question, _ in rows
    ]
    write(data / "ai2d", "test", documents, {"question": TEXT, "options": TEXTS, "answer": TEXT, "image": PICTURE})
    return dict(rows), 50.0


def textvqa(data):
    # Ten answers: 3 stop, 7 halt. "stop" agrees with 2 or 3 of the nine others: (3 · 2/3 + 7 · 1) / 10 = 0.9.
    # "Halt." agrees with at least 6: 1. The average of 0.9, 1, 0 and 0 is 0.475.
    rows = [("what does it say", "stop"), ("what is written", "Halt."), ("which word", "go"), ("which sign", "")]
    documents = [
        {"question": question, "question_id": i, "image": picture(40), "ocr_tokens": ["STOP", "40"],
         "answers": ["stop"] * 3 + ["halt"] * 7, "image_id": str(i), "set_name": "val"}
        for i, (question, _) in enumerate(rows)
    ]  # fmt: skip
    features = {
        "question": TEXT, "question_id": datasets.Value("int32"), "image": PICTURE, "ocr_tokens": TEXTS,
        "answers": TEXTS, "image_id": TEXT, "set_name": TEXT,
    }  # fmt: skip
    write(data / "textvqa", "validation", documents, features)
    return dict(rows), 47.5


def chartqa(data):
    # 42 is within 5 % of 40, 43 is not; "12%" is 0.12; words must match but for case: 2 of 5.
    rows = [("how many ?", "40", "42", "human_test"), ("how much ?", "40", "43", "human_test"),
            ("is it ?", "Yes", "yes", "augmented_test"), ("which share ?", "12", "12%", "augmented_test"),
            ("what ?", "Asia", "", "human_test")]  # fmt: skip
    documents = [
        {"type": kind, "question": question, "answer": answer, "image": picture(33)}
        for question, answer, _, kind in rows
    ]
    write(data / "ChartQA", "test", documents, dict.fromkeys(("type", "question", "answer"), TEXT) | {"image": PICTURE})
    return {question: said for question, _, said, _ in rows}, 40.0


def mmmu(data):
    # Letters with and without brackets, an open answer in a sentence: 3 of 5.
    rows = [("<image 1> one ?", "multiple-choice", "B", "B"), ("<image 1> two ?", "multiple-choice", "B", "(B)"),
            ("<image 1> and <image 2> ?", "multiple-choice", "B", "A"),
            ("how many in <image 1> ?", "open", "5", "It is 5."),
            ("how much in <image 1> ?", "open", "7", "")]  # fmt: skip
    columns = ("id", "question", "options", "explanation", "img_type", "answer", "topic_difficulty", "question_type",
               "subfield")  # fmt: skip
    images = [f"image_{i}" for i in range(1, 8)]
    documents = []
    for i, (question, kind, answer, _) in enumerate(rows):
        options = "['red', 'blue']" if kind != "open" else "[]"
        values = (f"validation_Math_{i}", question, options, "", "['Diagrams']", answer, "Easy", kind, "Algebra")
        document = dict(zip(columns, values)) | dict.fromkeys(images)
        document |= {"image_1": picture(50), "image_2": picture(51) if "<image 2>" in question else None}
        documents.append(document)
    write(data / "MMMU", "validation", documents, dict.fromkeys(columns, TEXT) | dict.fromkeys(images, PICTURE))
    return {question: said for question, _, _, said in rows}, 60.0


SCHEMAS = {"pope": pope, "gqa": gqa, "ai2d": ai2d, "textvqa_val": textvqa, "textvqa_val_ocr": textvqa,
           "chartqa": chartqa, "mmmu_val": mmmu}  # fmt: skip


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
    measurement = sweep.run(make_cell(task, "zspa", 0.25, 0.2, "mean"))
    images = IMAGES.get(task, [1] * len(answers))
    assert [(r.visual_tokens, r.kept_tokens) for r in sorted(embedded.records, key=lambda r: r.doc_id)] == [
        (144 * count, 36 * count) for count in images
    ]
    assert len(measurement.score.per_sample) == len(answers) and measurement.failed == 0
    assert measurement.metric == BENCHMARKS[task].metric


def failing(embedded, monkeypatch, samples):
    """Lets these samples, or all where it is None, fail on the way into the model."""
    inputs = embedded._inputs

    def fail_some(batch):
        if samples is None or any(sample.doc_id in samples for sample in batch):
            raise OSError("no such picture")
        return inputs(batch)

    monkeypatch.setattr(embedded, "on_error", "count")
    monkeypatch.setattr(embedded, "_inputs", fail_some)


def test_a_failed_sample_of_pope_is_a_miss_where_it_is_yes_and_a_false_alarm_where_it_is_no(
    embedded, manager, tmp_path, monkeypatch
):
    pope(tmp_path / "data")
    cell = make_cell("pope", "divprune", 0.25, None, None)
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
    measurement = Sweep(embedded, manager, tmp_path, tmp_path / "data").run(make_cell(task, "original", 1, None, None))
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
