"""One image and a question as inputs of a zspa checkpoint."""

from pathlib import Path

import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from .base_checkpoint import checkpoint_folder, is_converted, read_config
from .trust import check_code


def output_folder(path: Path) -> Path:
    """`path` as a folder to write into, made if need be; raises `ValueError` where that cannot work."""
    if path.exists() and not path.is_dir():
        raise ValueError(f"--output {path} is a file: give a folder")
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"--output {path} cannot be made: {error.strerror}") from error
    return path


def load_processor(folder: Path):
    """The processor of a checkpoint's folder; raises `ValueError` where it needs torchvision and there is none."""
    try:
        return AutoProcessor.from_pretrained(folder)
    except ImportError as error:
        if "torchvision" not in str(error).lower():
            raise
        raise ValueError(f"the processor of {folder} needs torchvision: pip install torchvision") from error


def load_zspa(checkpoint: str | Path, trust_remote_code: bool = False):
    """Model and processor of a zspa checkpoint, on the GPU where there is one.

    Args:
        checkpoint: as `checkpoint_folder` takes it.
        trust_remote_code: run its code whatever it is; else only if it is that of this package.

    Raises:
        ValueError: the checkpoint is not there, is not one of ours, has other code, or its processor needs torchvision.
    """
    folder = checkpoint_folder(checkpoint)
    if not is_converted(read_config(folder)):
        raise ValueError(f"{checkpoint} is not a zspa checkpoint: make one with hf-zspa convert {checkpoint} OUT")
    if not trust_remote_code:
        check_code(folder, checkpoint)
    processor = load_processor(folder)
    model = AutoModelForImageTextToText.from_pretrained(folder, trust_remote_code=True, dtype="auto")
    return model.to("cuda" if torch.cuda.is_available() else "cpu").eval(), processor


def question_inputs(model, processor, image: Image.Image, prompt: str):
    """What the processor makes of one image and a question, in the checkpoint's chat template if it has one."""
    if getattr(processor, "chat_template", None):
        content = [{"type": "image"}, {"type": "text", "text": prompt}]
        text = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
    else:
        text = f"{processor.image_token}\n{prompt}"
    return processor(images=image, text=text, return_tensors="pt").to(model.device, model.dtype)
