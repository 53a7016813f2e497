"""Answers questions about images in several processes, a share each: on one GPU each, or on a CPU.

    accelerate launch --num_processes 2 docs/examples/answer_in_processes.py CHECKPOINT questions.jsonl answers.jsonl

Each line of `questions.jsonl` is `{"image": path, "prompt": text}`; the answers come in the same order. CHECKPOINT is a
base, or a converted checkpoint. For many questions, engines answer faster: docs/examples/answer_dataset.py.
"""

import json
import sys
from pathlib import Path

from accelerate import PartialState
from accelerate.utils import gather_object
from PIL import Image
from transformers import AutoProcessor

import hf_zspa


def main(checkpoint: str, questions: str, answers: str) -> None:
    state = PartialState()
    model = hf_zspa.from_pretrained(checkpoint).to(state.device)
    processor = AutoProcessor.from_pretrained(checkpoint)
    rows = [json.loads(line) for line in Path(questions).read_text(encoding="utf-8").splitlines() if line.strip()]
    with state.split_between_processes(rows) as share:
        found = gather_object([row | {"answer": answer(model, processor, row)} for row in share])
    if state.is_main_process:
        Path(answers).write_text("".join(json.dumps(row) + "\n" for row in found), encoding="utf-8")
    state.destroy_process_group()


def answer(model, processor, row: dict) -> str:
    content = [{"type": "image"}, {"type": "text", "text": row["prompt"]}]
    text = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
    image = Image.open(row["image"]).convert("RGB")
    inputs = processor(images=image, text=text, return_tensors="pt").to(model.device, model.dtype)
    out = model.generate(**inputs, max_new_tokens=64, do_sample=False)
    return processor.decode(out[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True).strip()


if __name__ == "__main__":
    main(*sys.argv[1:])
