"""The examples of docs/integrations.md that start processes: LoRA with TRL and PEFT, and answers with accelerate."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor
from trl_trainers import ONE

import hf_zspa
from hf_zspa.loading import load_zspa, question_inputs
from hf_zspa.models.given import open_image
from hf_zspa.scenes import CHECKPOINT, EXAMPLES

ROOT = Path(__file__).parents[2]
QUESTIONS = {
    "relation.png": ("is the pink sign above or below the cyan circle ?", "below"),
    "attribute.png": ("what colour is the circle ?", "yellow"),
}


@pytest.fixture
def rows(tmp_path):
    """A file of questions with their answers."""
    lines = [{"image": str(EXAMPLES / name), "prompt": p, "answer": a} for name, (p, a) in QUESTIONS.items()]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return tmp_path / "rows.jsonl"


def run(folder, processes, example, *arguments):
    """An example, in several processes of a CPU or in one; what stands in for torchvision's operators comes first."""
    start = folder / "start.py"
    start.write_text(
        "import runpy, sys, torchvision_operators\ndel sys.argv[0]\nrunpy.run_path(sys.argv[0], None, '__main__')"
    )
    launch = ["-m", "accelerate.commands.launch", "--cpu", "--num_processes", str(processes), "--num_machines", "1"]
    launch += ["--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
    command = [sys.executable, *launch, start, ROOT / "docs/examples" / example, *arguments]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)])}
    done = subprocess.run(
        [*map(str, command)], capture_output=True, text=True, env=environment, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize(
    "processes", [pytest.param(1, marks=[] if ONE else pytest.mark.nightly), pytest.param(2, marks=pytest.mark.nightly)]
)
def test_lora_trains_a_model_that_prunes_and_leaves_a_checkpoint_that_does(rows, tmp_path, processes):
    run(tmp_path, processes, "lora.py", CHECKPOINT, rows, tmp_path / "out", "--steps", 2)
    merged = tmp_path / "out" / "merged"
    found = hf_zspa.verify_checkpoint(merged)
    assert found.passed, found
    model, processor = load_zspa(merged)
    inputs = question_inputs(model, processor, open_image(EXAMPLES / "relation.png"), "what is it ?")
    before = AutoModelForImageTextToText.from_pretrained(CHECKPOINT)
    layer = "model.language_model.layers.0.self_attn.q_proj.weight"
    assert not torch.equal(model.get_parameter(layer), before.get_parameter(layer))
    assert len(model.select_visual_tokens(**inputs)[0]) == 14


@pytest.mark.nightly
def test_answers_of_several_processes_are_those_of_one(rows, tmp_path):
    run(tmp_path, 2, "answer_in_processes.py", CHECKPOINT, rows, tmp_path / "answers.jsonl")
    answers = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text().splitlines()]
    asked = [json.loads(line) for line in rows.read_text().splitlines()]
    model, processor = hf_zspa.from_pretrained(CHECKPOINT), AutoProcessor.from_pretrained(CHECKPOINT)
    for row, question in zip(answers, asked, strict=True):
        inputs = question_inputs(model, processor, open_image(question["image"]), question["prompt"])
        out = model.generate(**inputs, max_new_tokens=64, do_sample=False)[0, inputs["input_ids"].shape[1] :]
        expected = processor.decode(out, skip_special_tokens=True).strip()
        assert row == question | {"answer": expected} and expected == question["answer"]
