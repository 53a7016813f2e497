"""TRL's trainers for one step on two questions about two images."""

import copy

import datasets
import peft
import torch
import trl
from pairs import OTHER, QUESTION, image
from steps import forget_precision

ONE = int(trl.__version__.split(".")[0]) >= 1
MODES = {
    "float32": {},
    "bf16 autocast": {"bf16": True},
    "gradient checkpointing": {"gradient_checkpointing": True},
    "LoRA": {"lora": True},
    "all three": {"bf16": True, "gradient_checkpointing": True, "lora": True},
}
LORA = peft.LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False)
IMAGES = [[image()], [image(1, (56, 140))]]
ANSWERS, OTHERS = ("a red star", "three, left of the dog and right of the sign"), ("two green squares", "none")


def said(role: str, text: str, images: int = 0) -> list[dict]:
    return [{"role": role, "content": [{"type": "image"}] * images + [{"type": "text", "text": text}]}]


PROMPTS = [said("user", text, 1) for text in (QUESTION, OTHER)]
COMPLETIONS, REJECTED = ([said("assistant", text) for text in texts] for texts in (ANSWERS, OTHERS))
ANSWERED = {"prompt": PROMPTS, "completion": COMPLETIONS, "images": IMAGES}
CONVERSATIONS = {"messages": [prompt + answer for prompt, answer in zip(PROMPTS, COMPLETIONS)], "images": IMAGES}
PREFERENCES = {"prompt": PROMPTS, "chosen": COMPLETIONS, "rejected": REJECTED, "images": IMAGES}
QUESTIONS = {"prompt": [[{"role": "user", "content": text}] for text in (QUESTION, OTHER)], "images": IMAGES}


def trainer_of(kind: str, model, processor, folder, mode: str = "float32", reference=None, data=None, **options):
    """A trainer, "SFT", "DPO" or "GRPO".

    Args:
        mode: a name of `MODES`.
        reference: the model that DPO compares with; where an adapter is trained, it is the model without it.
        data: in place of what the kind is made for.
        options: entries of its config.
    """
    forget_precision()
    arguments = {}
    options = {"bf16": False, "gradient_checkpointing": False} | MODES[mode] | options
    if options.pop("lora", False):
        arguments["peft_config"] = copy.deepcopy(LORA)
    if kind == "GRPO":
        data = data or QUESTIONS
        special = [i for i in processor.tokenizer.all_special_ids if i != processor.tokenizer.eos_token_id]
        options |= {"max_completion_length": 5, "num_generations": 2, "per_device_train_batch_size": 4}
        options["generation_kwargs"] = {"suppress_tokens": special}
        arguments["reward_funcs"] = lambda completions, **_: [float(len(str(text))) for text in completions]
    else:
        data = data or {"SFT": ANSWERED, "DPO": PREFERENCES}[kind]
        options |= {"max_length": None, "per_device_train_batch_size": 2}
    if kind == "DPO":
        if not ONE:  # which shortens prompts, and takes the pictures out, unless told otherwise
            options |= {"max_prompt_length": None, "remove_unused_columns": False}
        if "peft_config" not in arguments:
            arguments["ref_model"] = reference
    config = getattr(trl, f"{kind}Config")(
        output_dir=str(folder), max_steps=1, logging_steps=1, use_cpu=True, report_to="none", save_strategy="no",
        disable_tqdm=True, **options,
    )  # fmt: skip
    torch.manual_seed(0)  # for the weights of an adapter
    return getattr(trl, f"{kind}Trainer")(
        model, args=config, train_dataset=datasets.Dataset.from_dict(data), processing_class=processor, **arguments
    )
