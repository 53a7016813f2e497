"""A model, its processor and its device; a picture with a question as their inputs; and when the answer begins."""

import time
from pathlib import Path
from typing import Any

import torch
import transformers
from PIL import Image
from transformers import PretrainedConfig, StoppingCriteria

from .checkpoints.base import built_from, is_converted, known_family, read_config
from .checkpoints.resolve import checkpoint_folder
from .checkpoints.verify import check_code
from .models.given import check_prompt
from .models.in_memory import check_transformers_has, from_pretrained

# transformers 5 dropped this name; both load the same classes
_AUTO_CLASS: Any = getattr(transformers, "AutoModelForVision2Seq", transformers.AutoModelForImageTextToText)


class AutoModelForVision2Seq(_AUTO_CLASS):
    """Transformers' class of this name where it has one, else `AutoModelForImageTextToText`, which loads the same.

    It loads nothing unpruned that is to prune.
    """

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, *model_args, **kwargs):
        """As transformers' `from_pretrained`.

        Raises:
            ValueError: a zspa checkpoint without `trust_remote_code=True`, whose own class prunes, or a `zspa_` field
                for a checkpoint that is none.
        """
        given, _ = PretrainedConfig.get_config_dict(pretrained_model_name_or_path, **kwargs)
        fields = [name for name in kwargs if name.startswith("zspa_")]
        if is_converted(given) and not kwargs.get("trust_remote_code"):
            raise ValueError(
                f"{pretrained_model_name_or_path} prunes by its own code, and would be loaded unpruned without: pass "
                "trust_remote_code=True, or load it with transformers' own class"
            )
        if fields and not is_converted(given):
            raise ValueError(
                f"{fields[0]} is for zspa checkpoints, and {pretrained_model_name_or_path} is none: load it with "
                "hf_zspa.from_pretrained, or convert it"
            )
        return _AUTO_CLASS.from_pretrained(pretrained_model_name_or_path, *model_args, **kwargs)  # it goes by its name


def torchvision_to_install() -> str:
    """How to get the torchvision that belongs to the installed torch 2."""
    version = f"0.{int(torch.__version__.split('.')[1]) + 15}"
    return (
        f'pip install --no-deps "torchvision=={version}.*" from where torch {torch.__version__} came from, for the '
        "builds have to fit"
    )


def load_processor(folder: Path):
    """The processor of a checkpoint's folder.

    Raises:
        ValueError: it needs torchvision, or another package, and there is none, or `config.json` cannot be read.
    """
    from transformers import AutoProcessor  # imports torchvision, which a picture needs not

    try:
        with built_from(folder):
            return AutoProcessor.from_pretrained(folder)
    except ImportError as error:
        if "torchvision" in str(error).lower():
            raise ValueError(f"the processor of {folder} needs torchvision: {torchvision_to_install()}") from error
        raise ValueError(f"the processor of {folder} cannot be loaded: {error}") from error


def load_model(folder: Path, *, trusted: bool, device: torch.device | None, **options: Any):
    """The model of a checkpoint's folder, to infer with.

    Args:
        trusted: run the code in the folder.
        device: None leaves the model where transformers' `device_map` among the options has put it.
        options: of transformers' `from_pretrained`; those that are None are left out.

    Raises:
        ValueError: no model can be built of what its `config.json` says.
    """
    from transformers import AutoModelForImageTextToText

    given = {name: value for name, value in options.items() if value is not None}
    with built_from(folder):
        model = AutoModelForImageTextToText.from_pretrained(folder, trust_remote_code=trusted, **given)
    return (model if device is None else model.to(device)).eval()


def load_zspa(
    checkpoint: str | Path,
    trust_remote_code: bool = False,
    *,
    device: torch.device | None = None,
    dtype: str = "auto",
):
    """Model and processor of a zspa checkpoint; or of a base, which prunes as a conversion with defaults would.

    Args:
        checkpoint: as `checkpoint_folder` takes it.
        trust_remote_code: run its code whatever it is; else only if it is that of this package.
        device: None is the GPU where there is one.
        dtype: one of `DTYPES`.

    Raises:
        ValueError: the checkpoint is not there, can be no base, has other code, its processor needs torchvision, or
            transformers is older than its family.
    """
    folder = checkpoint_folder(checkpoint)
    device = device or usable_device(None)
    config = read_config(folder)
    if not is_converted(config):
        model = from_pretrained(folder, dtype=dtype)
        return model.to(device), load_processor(folder)
    check_transformers_has(known_family(folder, config))
    if not trust_remote_code:
        check_code(folder, checkpoint)
    processor = load_processor(folder)
    return load_model(folder, trusted=True, device=device, dtype=dtype), processor


def question_inputs(model, processor, image: Image.Image, prompt: str):
    """What the processor makes of one image and a question, in the checkpoint's chat template if it has one.

    Raises:
        ValueError: as `check_prompt` and `check_placeholders`, or the processor cannot use a picture of this size.
    """
    check_prompt(prompt)
    check_placeholders(processor, prompt)
    if getattr(processor, "chat_template", None):
        content = [{"type": "image"}, {"type": "text", "text": prompt}]
        text = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
    else:
        text = f"{processor.image_token}\n{prompt}"
    try:
        inputs = processor(images=image, text=text, return_tensors="pt")
    except (ValueError, RuntimeError, ZeroDivisionError) as error:
        raise ValueError(
            f"the checkpoint's processor cannot use a picture of {image.width} x {image.height} pixels ({error}): try "
            "another size"
        ) from error
    return inputs.to(model.device, model.dtype)


def check_placeholders(processor, prompt: str) -> None:
    """Raises `ValueError` where a prompt has a token that stands for an image or a video."""
    for token in (getattr(processor, f"{kind}_token", None) for kind in ("image", "video")):
        if isinstance(token, str) and token in prompt:
            raise ValueError(f"the prompt {prompt!r} has {token} in it, which stands for what is seen: leave it out")


def usable_device(name: str | None, asked: str = "device") -> torch.device:
    """The device of this name, or the GPU where there is one.

    Raises:
        ValueError: it cannot be used; `asked` is what the message calls the argument.
    """
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    try:
        device = torch.device(name or ("cuda" if gpus else "cpu"))
    except RuntimeError as error:
        raise ValueError(f"{asked} is {name!r}, but must be such as cpu or cuda:0") from error
    if device.type == "cuda" and (device.index or 0) >= gpus:
        raise ValueError(f"{asked} is {name!r}, but torch sees {gpus or 'no'} GPU{'s' * (gpus > 1)}: choose another")
    return device


class FirstTokenClock(StoppingCriteria):
    """Never stops a generation on a device, but notes when the first token is there."""

    def __init__(self, device: torch.device):
        self.device = device
        self.start = time.perf_counter()
        self.first_token = 0.0

    def __call__(self, input_ids, scores, **kwargs):
        self.first_token = self.first_token or self.now()
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)

    def now(self) -> float:
        """Seconds since the clock was made, once a GPU has done what it was given."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter() - self.start
