"""Trains a LoRA adapter on a model that prunes, and saves the two merged: a checkpoint that prunes by itself.

    pip install trl peft
    python docs/examples/lora.py Qwen/Qwen2.5-VL-3B-Instruct answered.jsonl trained --steps 100

Each line of `answered.jsonl` is `{"image": path, "prompt": text, "answer": text}`. CHECKPOINT is a base or a converted
checkpoint. On several GPUs, or in several processes of a CPU:

    accelerate launch --num_processes 2 docs/examples/lora.py CHECKPOINT answered.jsonl trained
"""

import argparse
import json
from pathlib import Path

import torch
from datasets import Dataset
from peft import LoraConfig
from PIL import Image
from transformers import AutoProcessor
from trl import SFTConfig, SFTTrainer

import hf_zspa


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint")
    parser.add_argument("answered", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--keep-ratio", type=float, help="by default the checkpoint's own, or 0.1 of a base")
    parser.add_argument("--steps", type=int, default=100)
    arguments = parser.parse_args()

    fields = {} if arguments.keep_ratio is None else {"zspa_keep_ratio": arguments.keep_ratio}
    model = hf_zspa.from_pretrained(arguments.checkpoint, **fields)
    processor = AutoProcessor.from_pretrained(arguments.checkpoint)
    rows = [json.loads(line) for line in arguments.answered.read_text(encoding="utf-8").splitlines() if line.strip()]
    trainer = SFTTrainer(
        model,
        SFTConfig(
            output_dir=str(arguments.output / "trainer"), max_steps=arguments.steps, learning_rate=2e-4,
            per_device_train_batch_size=2, max_length=None, save_strategy="no", report_to="none",
            use_cpu=not torch.cuda.is_available(), bf16=torch.cuda.is_available(),
        ),
        train_dataset=Dataset.from_list([conversation(row) for row in rows]),
        processing_class=processor,
        peft_config=LoraConfig(r=8, target_modules="all-linear"),
    )  # fmt: skip
    trainer.train()
    trainer.accelerator.wait_for_everyone()
    if trainer.accelerator.is_main_process:
        merged = trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False).merge_and_unload()
        merged.save_pretrained(arguments.output / "merged")
        processor.save_pretrained(arguments.output / "merged")
    trainer.accelerator.end_training()


def conversation(row: dict) -> dict:
    """A row of the file as TRL takes it; the loss is that of the answer."""
    question = [{"type": "image"}, {"type": "text", "text": row["prompt"]}]
    return {
        "images": [Image.open(row["image"]).convert("RGB")],
        "prompt": [{"role": "user", "content": question}],
        "completion": [{"role": "assistant", "content": [{"type": "text", "text": row["answer"]}]}],
    }


if __name__ == "__main__":
    main()
