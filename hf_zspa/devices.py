"""The device that is asked for, if there is one."""

import torch


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
