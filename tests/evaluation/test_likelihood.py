"""The likelihood of given answers: that of the stock model where nothing is pruned, that of the pruned prompt else."""

import json

import datasets
import pytest
import torch
from lmms_eval.api.instance import Instance
from lmms_eval.evaluator import simple_evaluate
from lmms_eval.models.registry_v2 import ModelRegistryV2
from lmms_eval.tasks import TaskManager
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from hf_zspa.checkpoints.resolve import checkpoint_folder
from hf_zspa.evaluation.likelihood import HfZspaLikelihood
from hf_zspa.evaluation.requests import SampleError
from hf_zspa.scenes import CHECKPOINT
from hf_zspa.scenes.heldout import collect

QUESTIONS = collect(per_kind=4)
ANSWERS = ("yes", "no", "red", "left red")
COUNT = len(QUESTIONS.questions)


def document(index):
    image, question = QUESTIONS.questions[index]
    return {"image": Image.fromarray(QUESTIONS.images[image]), "question": question.text, "answer": question.answer}


def visuals(found):
    return [found["image"]]


def asked(index, given, kind="loglikelihood"):
    """What lmms-eval sends to a model that does not chat."""
    about = {"task": "probe", "split": "test", "doc_id": index, "repeats": 1}
    return Instance(kind, (document(index)["question"], given, visuals, index, "probe", "test"), 0, about)


@pytest.fixture(scope="module")
def model():
    found = HfZspaLikelihood("embedded", batch_size=8, device="cpu")
    found.task_dict = {"probe": {"test": [document(index) for index in range(COUNT)]}}
    return found


@pytest.fixture(scope="module")
def stock():
    """Folder by folder, the checkpoint and its processor without this package's evaluation."""
    model = AutoModelForImageTextToText.from_pretrained(CHECKPOINT)
    return model.eval(), AutoProcessor.from_pretrained(CHECKPOINT)


def prompt_of(processor, index):
    turn = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": document(index)["question"]}]}]
    return processor.apply_chat_template(turn, add_generation_prompt=True)


def found_for(model, requests):
    return [result.text for result in model.loglikelihood(requests)]


@torch.inference_mode()
def stock_loss(stock, index, given):
    """The stock model's own loss of the answer's tokens, and whether they are the most likely."""
    model, processor = stock
    prompt = prompt_of(processor, index)
    image = document(index)["image"]
    before = processor(images=image, text=prompt, return_tensors="pt")["input_ids"].shape[1]
    inputs = processor(images=image, text=prompt + given, return_tensors="pt")
    labels = inputs["input_ids"].clone()
    labels[:, :before] = -100
    output = model(**inputs, labels=labels)
    greedy = output.logits[0, before - 1 : -1].argmax(-1)
    return output.loss.item(), bool((greedy == labels[0, before:]).all())


def test_without_pruning_the_loss_is_the_stock_models_in_a_batch_of_all_lengths(model, stock):
    model.use_method("original")
    pairs = [(index, f" {answer}") for index in range(0, COUNT, 5) for answer in ANSWERS]
    found = found_for(model, [asked(*pair) for pair in pairs])
    expected = [stock_loss(stock, *pair) for pair in pairs]
    assert [loss for loss, _ in found] == pytest.approx([loss for loss, _ in expected], abs=1e-4)
    assert [greedy for _, greedy in found] == [greedy for _, greedy in expected]
    assert {greedy for _, greedy in found} == {True, False}


def test_with_pruning_the_loss_is_that_of_the_pruned_prompt(model):
    pruned = AutoModelForImageTextToText.from_pretrained(checkpoint_folder("embedded"), trust_remote_code=True)
    processor = AutoProcessor.from_pretrained(CHECKPOINT)
    model.use_method("zspa", keep_ratio=0.1)
    for index in range(0, COUNT, 5):
        inputs = processor(images=document(index)["image"], text=prompt_of(processor, index), return_tensors="pt")
        output = pruned.generate(
            **inputs, max_new_tokens=3, do_sample=False, zspa_keep_ratio=0.1, output_logits=True,
            return_dict_in_generate=True,
        )  # fmt: skip
        tokens = output.sequences[0, inputs["input_ids"].shape[1] :]
        tokens = tokens[tokens != processor.tokenizer.eos_token_id]
        losses = [-step[0].log_softmax(-1)[token].item() for step, token in zip(output.logits, tokens)]
        answer = processor.decode(tokens)
        loss, greedy = found_for(model, [asked(index, f" {answer}")])[0]
        assert greedy and loss == pytest.approx(sum(losses) / len(losses), abs=1e-5)
    assert {(record.visual_tokens, record.kept_tokens) for record in model.records} == {(144, 14)}


def test_what_is_kept_does_not_depend_on_the_given_answer(model, monkeypatch):
    seen = []
    model.use_method("zspa", keep_ratio=0.1)
    choose = type(model.pruner).__call__

    def note(self, visual, prompt):
        kept = choose(self, visual, prompt)
        seen.extend(indices.tolist() for indices in kept)
        return kept

    monkeypatch.setattr(type(model.pruner), "__call__", note)
    found = found_for(model, [asked(0, f" {answer}") for answer in ANSWERS])
    assert len(seen) == len(ANSWERS) and len(set(map(tuple, seen))) == 1
    assert len({loss for loss, _ in found}) == len(ANSWERS)


def test_questions_that_are_to_be_answered_are_answered_as_by_the_model_that_chats(model, embedded):
    model.use_method("zspa", keep_ratio=0.1)
    embedded.use_method("zspa", keep_ratio=0.1)
    embedded.task_dict = model.task_dict
    arguments = {"max_new_tokens": 6}

    def messages(found):
        content = [{"type": "image", "url": found["image"]}, {"type": "text", "text": found["question"]}]
        return [{"role": "user", "content": content}]

    chat = [
        Instance("generate_until", ("", messages, arguments, i, "probe", "test"), 0, asked(i, "").metadata)
        for i in range(COUNT)
    ]
    simple = [asked(i, arguments, "generate_until") for i in range(COUNT)]
    assert model.generate_until(simple) == embedded.generate_until(chat)


def test_an_empty_answer_is_refused_with_the_samples_name(model):
    with pytest.raises(SampleError, match=r"sample 1 of probe \(test\) failed.*is empty"):
        model.loglikelihood([asked(0, " yes"), asked(1, "")])


def test_what_would_be_scored_wrong_is_refused(model, monkeypatch):
    with pytest.raises(ValueError, match="multiple_choice, scored by acc;"):
        model.loglikelihood([asked(0, lambda found: found["answer"])])
    alone = Instance("loglikelihood", ("", "yes"), 0, asked(0, "").metadata)
    with pytest.raises(ValueError, match="acc_mutual_info"):
        model.loglikelihood([asked(0, " yes"), alone])
    monkeypatch.setattr(model, "on_error", "count")
    with pytest.raises(ValueError, match="on_error is 'count', but must be 'raise'"):
        model.loglikelihood([asked(0, " yes")])


def test_lmms_eval_finds_it_under_the_same_name():
    registry = ModelRegistryV2()
    registry.load_entrypoint_manifests()
    assert registry.get_model_class("hf_zspa", force_simple=True) is HfZspaLikelihood


def multiple_choice(folder, gold):
    """A multiple-choice task of lmms-eval on local data."""
    indices = [index for index in range(COUNT) if document(index)["answer"] in ("yes", "no")][: len(gold)]
    rows = [
        {"image": found["image"], "question": found["question"], "choices": ["yes", "no"],
         "answer": ["yes", "no"].index(found["answer"]) if right else 1 - ["yes", "no"].index(found["answer"])}
        for found, right in ((document(index), right) for index, right in zip(indices, gold))
    ]  # fmt: skip
    assert len(rows) == len(gold)
    (folder / "data").mkdir(parents=True)
    datasets.Dataset.from_list(rows).cast_column("image", datasets.Image()).to_parquet(folder / "data/test.parquet")
    (folder / "visuals.py").write_text("def visuals(found):\n    return [found['image'].convert('RGB')]\n")
    task = {
        "task": "probe_choice", "dataset_path": "parquet", "test_split": "test", "output_type": "multiple_choice",
        "dataset_kwargs": {"data_files": {"test": str(folder / "data/test.parquet")}},
        "doc_to_text": "question", "doc_to_target": "answer", "doc_to_choice": "choices",
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    }  # fmt: skip
    text = json.dumps(task)[:-1] + ', "doc_to_visual": !function visuals.visuals}'
    (folder / "probe_choice.yaml").write_text(text)
    return TaskManager(include_path=str(folder))


def test_a_multiple_choice_task_runs_through_lmms_eval(model, tmp_path):
    manager = multiple_choice(tmp_path, [True, True, False, True])
    model.use_method("original")
    for _ in range(2):  # the second time with a cache of responses that has seen the first
        results = simple_evaluate(
            model=model, tasks=["probe_choice"], task_manager=manager, batch_size=8, bootstrap_iters=0,
            use_cache=str(tmp_path / "responses"),
        )  # fmt: skip
        assert results["results"]["probe_choice"]["acc,none"] == 0.75
