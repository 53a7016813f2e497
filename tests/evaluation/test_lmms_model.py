"""The lmms-eval model `hf_zspa`: its answers are the checkpoint's own, its counts are true, its failures are loud."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import tiny
import torch
from lmms_eval.api.instance import Instance
from lmms_eval.models.registry_v2 import ModelRegistryV2
from pairs import image as drawn_image
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from hf_zspa import convert_checkpoint
from hf_zspa.checkpoints.resolve import checkpoint_folder
from hf_zspa.evaluation.lmms_model import HfZspa
from hf_zspa.evaluation.requests import SampleError, generation_arguments, until_stops
from hf_zspa.evaluation.resizing import largest_grid
from hf_zspa.scenes import CHECKPOINT
from hf_zspa.scenes.domains import VARIED_SCENES
from hf_zspa.scenes.heldout import collect

QUESTIONS = collect(per_kind=3)


def image_of(index):
    return Image.fromarray(QUESTIONS.images[QUESTIONS.questions[index][0]])


def messages_of(index):
    content = [{"type": "image", "url": image_of(index)}, {"type": "text", "text": QUESTIONS.questions[index][1].text}]
    return [{"role": "user", "content": content}]


def requests(documents, arguments=None, to_messages=lambda document: document):
    """What lmms-eval sends for a list of documents."""
    arguments = {"max_new_tokens": 6} if arguments is None else arguments
    return [
        Instance(
            "generate_until", ("", to_messages, dict(arguments), i, "probe", "test"), 0,
            {"task": "probe", "doc_id": i, "repeats": 1},
        )
        for i in range(len(documents))
    ]  # fmt: skip


@pytest.fixture
def ask(embedded):
    """Answers to documents that are messages themselves, by the embedded model under a method."""

    def run(documents, method="zspa", model=embedded, arguments=None, **ratios):
        model.use_method(method, **ratios)
        model.task_dict = {"probe": {"test": documents}}
        return model.generate_until(requests(documents, arguments))

    return run


def test_the_installed_package_brings_the_model_to_lmms_eval():
    registry = ModelRegistryV2()
    registry.load_entrypoint_manifests()
    assert registry.get_model_class("hf_zspa") is HfZspa


def test_a_batch_of_prompts_of_all_lengths_is_answered_as_each_one_by_itself(ask):
    documents = [messages_of(i) for i in range(12)]
    alone = [answer for document in documents for answer in ask([document])]
    assert ask(documents) == alone


@pytest.mark.parametrize(("method", "keep"), [("original", 1.0), ("zspa", 0.1)])
def test_answers_are_those_of_the_checkpoint_through_its_own_processor_and_template(ask, method, keep):
    processor = AutoProcessor.from_pretrained(CHECKPOINT)
    model = AutoModelForImageTextToText.from_pretrained(checkpoint_folder("embedded"), trust_remote_code=True)
    expected = []
    for index in range(12):
        turn = [{"role": "user", "content": [{"type": "image"}, messages_of(index)[0]["content"][1]]}]
        prompt = processor.apply_chat_template(turn, add_generation_prompt=True)
        inputs = processor(images=image_of(index), text=prompt, return_tensors="pt")
        output = model.generate(**inputs, max_new_tokens=6, do_sample=False, zspa_keep_ratio=keep)
        expected.append(processor.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True).strip())
    assert ask([messages_of(i) for i in range(12)], method) == expected
    assert len(set(expected)) > 3


def test_tokens_are_counted_where_the_model_prunes(ask, embedded):
    two = messages_of(0)[0]["content"]
    documents = [messages_of(0), [{"role": "user", "content": [two[0], two[0], two[1]]}], messages_of(1)]
    documents.append([{"role": "user", "content": [two[1]]}])
    ask(documents, keep_ratio=0.25)
    by_document = {record.doc_id: (record.visual_tokens, record.kept_tokens) for record in embedded.records}
    assert by_document == {0: (144, 36), 1: (288, 72), 2: (144, 36), 3: (0, 0)}
    ask(documents, "original")
    assert {(r.visual_tokens, r.kept_tokens) for r in embedded.records} == {(144, 144), (288, 288), (0, 0)}


def test_a_model_that_ignores_its_pruner_cannot_pass_for_a_pruned_one(ask, embedded, monkeypatch):
    generate = embedded.model.generate
    monkeypatch.setattr(
        embedded.model,
        "generate",
        lambda **kwargs: generate(**{k: v for k, v in kwargs.items() if k != "visual_token_pruner"}),
    )
    with pytest.raises(SampleError, match=r"sample 0 of probe \(test\).*did not prune"):
        ask([messages_of(0)])


def test_every_method_gives_an_answer_and_keeps_what_was_asked(ask, embedded):
    for method in ("relevance", "divprune", "zspa", "random", "conditional_dpp", "mmtok", "par", "tome"):
        ask([messages_of(0)], method, keep_ratio=0.1)
        assert [(r.visual_tokens, r.kept_tokens) for r in embedded.records] == [(144, 14)], method


def test_a_resized_image_has_the_average_of_its_tokens_at_the_first_places(ask, embedded):
    (answer,) = ask([messages_of(0)], "resized", keep_ratio=0.25)
    assert embedded.model.config.zspa_position_ids == "compact"
    assert [(r.visual_tokens, r.kept_tokens) for r in embedded.records] == [(144, 36)]
    inputs = embedded.processor(
        images=image_of(0), text=embedded.processor.apply_chat_template(messages_of(0), add_generation_prompt=True),
        return_tensors="pt",
    )  # fmt: skip
    stock = AutoModelForImageTextToText.from_pretrained(CHECKPOINT)
    (features,) = stock.model.get_image_features(inputs["pixel_values"], return_dict=True).pooler_output
    small = features.view(6, 2, 6, 2, -1).mean((1, 3)).flatten(0, 1)
    ids = inputs["input_ids"]
    left = torch.cumsum(ids == stock.config.image_token_id, 1) <= 36
    left |= ids != stock.config.image_token_id
    embeds = stock.get_input_embeddings()(ids[left])
    embeds[ids[left] == stock.config.image_token_id] = small
    tokens = stock.generate(inputs_embeds=embeds[None], max_new_tokens=6, do_sample=False)
    assert answer == embedded.processor.decode(tokens[0], skip_special_tokens=True).strip()
    ask([messages_of(0)], "zspa", keep_ratio=0.25)
    assert embedded.model.config.zspa_position_ids == "preserve"


def test_a_failing_sample_stops_the_run_with_its_id(ask):
    broken = [{"role": "user", "content": [{"type": "image", "url": "no-such-picture.png"}]}]
    with pytest.raises(SampleError, match=r"sample 1 of probe \(test\) failed"):
        ask([messages_of(0), broken, messages_of(1)])


def test_a_picture_that_cannot_be_read_is_a_failure_of_its_sample(ask, embedded, monkeypatch):
    def read(document):
        if document == "broken":
            raise OSError("image file is truncated")
        return document

    embedded.use_method("zspa")
    embedded.task_dict = {"probe": {"test": [messages_of(0), "broken", messages_of(1)]}}
    asked = requests([messages_of(0), "broken", messages_of(1)], to_messages=read)
    with pytest.raises(SampleError, match=r"sample 1 of probe \(test\) failed.*truncated"):
        embedded.generate_until(asked)
    monkeypatch.setattr(embedded, "on_error", "count")
    embedded.use_method("zspa")
    first, failed, last = embedded.generate_until(asked)
    assert [first, last] == ask([messages_of(0), messages_of(1)]) and "truncated" in failed


def test_counted_failures_are_marked_wrong_and_the_rest_is_answered(ask, embedded, monkeypatch):
    monkeypatch.setattr(embedded, "on_error", "count")
    broken = [{"role": "user", "content": [{"type": "image", "url": "no-such-picture.png"}]}]
    first, failed, last = ask([messages_of(0), broken, messages_of(1)])
    assert [first, last] == ask([messages_of(0), messages_of(1)])
    assert "failed" in failed
    ask([messages_of(0), broken, messages_of(1)])
    assert [record.doc_id for record in embedded.records if record.failed] == [1]


def test_log_tokens_writes_a_line_per_sample(ask, embedded, monkeypatch, tmp_path):
    monkeypatch.setattr(embedded, "log_tokens", str(tmp_path / "tokens.jsonl"))
    ask([messages_of(0), messages_of(1)], keep_ratio=0.1)
    lines = [json.loads(line) for line in (tmp_path / "tokens.jsonl").read_text().splitlines()]
    assert [(line["doc_id"], line["visual_tokens"], line["kept_tokens"]) for line in sorted(lines, key=str)] == [
        (0, 144, 14),
        (1, 144, 14),
    ]


def test_tasks_that_do_not_generate_are_refused(embedded):
    with pytest.raises(NotImplementedError, match="--force_simple"):
        embedded.loglikelihood([])
    with pytest.raises(NotImplementedError, match="single-round"):
        embedded.generate_until_multi_round([])


def test_greedy_unless_a_task_asks_for_sampling():
    greedy, until = generation_arguments({"until": "\n", "temperature": 0, "max_new_tokens": 7})
    assert (greedy["do_sample"], greedy["temperature"], greedy["max_new_tokens"], until) == (False, None, 7, ["\n"])
    sampled, until = generation_arguments({"temperature": 0.7, "until": []})
    assert (sampled["do_sample"], sampled["temperature"], until) == (True, 0.7, [])
    assert until_stops("red ASSISTANT: blue", ["\n", "ASSISTANT:"]) == "red"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"zspa_keep": 0.1}, "no model argument zspa_keep.*zspa_keep_ratio"),
        ({"zspa_keep_ratio": 1.5}, "zspa_keep_ratio is 1.5"),
        ({"zspa_method": "divprun"}, "no method 'divprun'.*divprune"),
        ({"zspa_pooling": "median"}, "zspa_pooling is 'median'.*mean"),
        ({"zspa_method": "original", "zspa_keep_ratio": 0.1}, "'original' does not read zspa_keep_ratio"),
        ({"zspa_method": "divprune", "zspa_core_ratio": 0.5}, "'divprune' does not read zspa_core_ratio"),
        ({"zspa_method": "random", "zspa_pooling": "max"}, "'random' does not read zspa_pooling"),
        ({"zspa_seed": 1}, "'zspa' does not read zspa_seed"),
        ({"batch_size": "auto"}, "batch_size is 'auto'"),
        ({"dtype": "half"}, "dtype is 'half'.*bfloat16"),
        ({"on_error": "skip"}, "on_error is 'skip'.*count"),
        ({"max_pixels": 1000}, "max_pixels have no meaning for CLIPImageProcessor"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        HfZspa("embedded", device="cpu", **arguments)


def test_an_unconverted_checkpoint_runs_unpruned_and_says_how_to_convert_it(ask):
    stock = HfZspa(str(CHECKPOINT), batch_size=8, device="cpu")
    documents = [messages_of(i) for i in range(6)]
    assert ask(documents, None, model=stock) == ask(documents, "original")
    assert {(record.visual_tokens, record.kept_tokens) for record in stock.records} == {(144, 144)}
    with pytest.raises(ValueError, match="hf-zspa convert"):
        HfZspa(str(CHECKPOINT), device="cpu", zspa_keep_ratio=0.1)


def command_line(*arguments, folder, processes=1):
    """Runs lmms-eval's own command with the embedded tasks and returns its results file."""
    from hf_zspa.evaluation.lmms_tasks import TASKS

    start = [sys.executable, "-m"]
    if processes > 1:
        start += ["torch.distributed.run", "--standalone", f"--nproc_per_node={processes}", "-m"]
    # What lets torchvision be imported is among the tests, so lmms-eval's command starts from there.
    path = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    environment["PYTHONPATH"] = path
    finished = subprocess.run(
        [*start, "evaluation.run_lmms_eval", "--include_path", str(TASKS), "--tasks", "zspa_scenes_chart",
         "--limit", "12", "--batch_size", "4", "--output_path", str(folder), "--log_samples", *arguments],
        capture_output=True, text=True, timeout=500, env=environment, check=False,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr[-3000:]
    (found,) = folder.rglob("*_results.json")
    return json.loads(found.read_text()), finished.stdout + finished.stderr


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """What lmms-eval's command says in one process: its results and its output."""
    arguments = ("--model", "hf_zspa", "--model_args", "pretrained=embedded,device=cpu,zspa_keep_ratio=0.25")
    return command_line(*arguments, folder=tmp_path_factory.mktemp("alone"))


def test_lmms_evals_own_command_line_prunes_and_says_how_much(alone):
    results, output = alone
    assert results["results"]["zspa_scenes_chart"]["exact_match,none"] > 0.5
    assert "12 samples, 1728 visual tokens in, 432 kept (25.0 %)" in output


def test_two_processes_share_the_samples_and_agree_with_one(alone, tmp_path):
    model = f"pretrained=embedded,zspa_keep_ratio=0.25,log_tokens={tmp_path / 'tokens'}"
    results, _ = command_line("--model", "hf_zspa", "--model_args", model, folder=tmp_path / "two", processes=2)
    assert results["results"]["zspa_scenes_chart"] == alone[0]["results"]["zspa_scenes_chart"]
    shares = [len((tmp_path / f"tokens.{rank}").read_text().splitlines()) for rank in (0, 1)]
    assert shares == [6, 6]


@pytest.fixture(scope="module")
def qwen():
    return HfZspa("embedded-qwen", batch_size=8, device="cpu")


def varied(count):
    heldout = collect(per_kind=3, domain=VARIED_SCENES)
    return [
        [{"role": "user", "content": [{"type": "image", "url": Image.fromarray(heldout.images[image])},
                                      {"type": "text", "text": question.text}]}]
        for image, question in heldout.questions[::2][:count]
    ]  # fmt: skip


def test_images_of_all_sizes_share_a_batch(ask, qwen):
    documents = varied(10)
    alone = [answer for document in documents for answer in ask([document], model=qwen, keep_ratio=0.2)]
    assert ask(documents, model=qwen, keep_ratio=0.2) == alone
    sizes = {record.doc_id: record.visual_tokens for record in qwen.records}
    assert len(set(sizes.values())) > 2
    for record in qwen.records:
        width, height = documents[record.doc_id][0]["content"][0]["url"].size
        assert record.visual_tokens == width * height // 12**2
        assert record.kept_tokens == int(0.2 * record.visual_tokens + 0.5)


def test_an_image_of_any_size_is_scaled_to_the_largest_grid_within_the_budget(ask, qwen):
    documents = varied(6)
    answers = ask(documents, "resized", model=qwen, keep_ratio=0.25)
    records = {record.doc_id: record for record in qwen.records}
    small = []
    for index, document in enumerate(documents):
        image, question = document[0]["content"]
        columns, rows = image["url"].width // 12, image["url"].height // 12
        fit = largest_grid(rows, columns, int(0.25 * rows * columns + 0.5))
        assert (records[index].visual_tokens, records[index].kept_tokens) == (rows * columns, fit[0] * fit[1])
        assert 0.18 < fit[0] * fit[1] / (rows * columns) <= 0.255
        scaled = image["url"].resize((fit[1] * 12, fit[0] * 12), Image.Resampling.BICUBIC)
        small.append([{"role": "user", "content": [image | {"url": scaled}, question]}])
    tiny = HfZspa("embedded-qwen", batch_size=8, device="cpu", min_pixels=1)
    assert ask(small, "original", model=tiny) == answers


def test_the_largest_grid_has_the_aspect_of_the_image_and_is_within_the_budget():
    assert largest_grid(10, 10, 10) == (3, 3) and largest_grid(10, 14, 14) == (3, 4)
    assert largest_grid(1, 50, 5) == (1, 5) and largest_grid(50, 1, 5) == (5, 1) and largest_grid(3, 3, 1) == (1, 1)


def test_max_pixels_bounds_the_visual_tokens_of_an_image(ask, qwen):
    small = HfZspa("embedded-qwen", batch_size=8, device="cpu", max_pixels=120 * 120, min_pixels=60 * 60)
    for model, largest in ((small, 100), (qwen, 196)):
        ask(varied(10), "original", model=model)
        assert max(record.visual_tokens for record in model.records) <= largest
    assert max(record.visual_tokens for record in qwen.records) > 100


def test_a_system_prompt_comes_before_every_question(ask, embedded, monkeypatch):
    seen = []
    template = embedded.processor.apply_chat_template

    def record(messages, **arguments):
        seen.append(template(messages, **arguments))
        return seen[-1]

    monkeypatch.setattr(embedded.processor, "apply_chat_template", record)
    monkeypatch.setattr(embedded, "system_prompt", "look .")
    ask([messages_of(0)])
    assert seen == [f"<bos> look . USER: <image> {QUESTIONS.questions[0][1].text} ASSISTANT:"]


@pytest.mark.parametrize(
    ("family", "tokens", "kept"),
    [
        ("llava_next", (70, 60), (4 * 4, 3 * 3)),  # of 18 and 15
        ("smolvlm", (80, 48), (5 * 2 * 2, 3 * 3)),  # of 20, so that each tile has 4, and of 12
        ("lfm2_vl", (108, 60), (12, 12)),  # its processor allows no more without tiles
        ("gemma4", (63, 65), (4 * 3, 2 * 5)),  # of 16 in the shape of 9 x 7 and 5 x 13
    ],
)
def test_images_that_are_cut_or_scaled_by_other_names_are_resized_in_a_batch(
    ask, tmp_path, monkeypatch, family, tokens, kept
):
    convert_checkpoint(tiny.build_base(family, tmp_path / "base"), tmp_path / "out")
    model, rows = HfZspa(str(tmp_path / "out"), batch_size=2, device="cpu"), []
    generate = model.model.generate
    monkeypatch.setattr(
        model.model, "generate", lambda **given: rows.append(len(given["input_ids"])) or generate(**given)
    )
    pictures = [drawn_image(0, (112, 84)), drawn_image(1, (230, 90))]
    asked = {"type": "text", "text": "What is it?"}
    documents = [[{"role": "user", "content": [{"type": "image", "url": each}, asked]}] for each in pictures]
    together = ask(documents, "resized", model=model, keep_ratio=0.25)
    counts = {record.doc_id: (record.visual_tokens, record.kept_tokens) for record in model.records}
    assert rows == [2] and counts == dict(enumerate(zip(tokens, kept)))
    assert [ask([document], "resized", model=model, keep_ratio=0.25)[0] for document in documents] == together


def test_resized_refuses_a_video_and_is_the_stock_model_at_keep_ratio_1(ask, embedded):
    video = [{"role": "user", "content": [{"type": "video", "url": "a.mp4"}, {"type": "text", "text": "what?"}]}]
    with pytest.raises(SampleError, match="the sample has a video, which 'resized' does not know"):
        ask([video], "resized", keep_ratio=0.25)
    assert ask([messages_of(0)], "resized", keep_ratio=1.0) == ask([messages_of(0)], "original")
    ask([messages_of(0)], "resized", keep_ratio=1.0)
    assert [(r.visual_tokens, r.kept_tokens) for r in embedded.records] == [(144, 144)]
