"""First weights that let a small model learn in minutes, and the normalisation of images."""

import numpy as np
import torch
from torch import Tensor, nn

from ..domains import SCENES, Domain

IMAGE_MEAN, IMAGE_STD = 0.5, 0.25
_WRITES_RESIDUAL = ("o_proj", "down_proj", "out_proj", "fc2", "attn.proj")


def normalised(images: Tensor) -> Tensor:
    """uint8 to float32, as the image processors do it."""
    return (images.float() / 255 - IMAGE_MEAN) / IMAGE_STD


@torch.no_grad()
def scale_to_width(model: nn.Module) -> None:
    """Weights scaled by fan-in: the library's fixed 0.02 is far too small for so narrow a model."""
    for name, weight in model.named_parameters():
        if "position_embedding" in name or "class_embedding" in name:
            nn.init.normal_(weight, std=0.1)
        elif "embed_tokens" in name:
            nn.init.normal_(weight, std=0.5)
        elif weight.dim() >= 2 and "lm_head" not in name:
            scale = 0.5 if any(part in name for part in _WRITES_RESIDUAL) else 0.8
            nn.init.normal_(weight, std=scale * weight[0].numel() ** -0.5)


def patch_filters(width: int, size: int, seed: int, domain: Domain = SCENES, scenes: int = 300) -> Tensor:
    """Filters (width, 3, size, size): the principal components of training patches, each at unit variance."""
    rows = []
    for index in range(scenes):
        scene = domain.scene(seed * 10**9 + index)
        side = len(scene.image) // size
        pixels = (scene.image.astype(np.float32) / 255 - IMAGE_MEAN) / IMAGE_STD
        patches = pixels.reshape(side, size, side, size, 3).transpose(0, 2, 4, 1, 3).reshape(side * side, -1)
        shown = scene.owner.reshape(side, size, side, size).any((1, 3)).reshape(-1)
        rows += [patches[shown], patches[~shown][:6]]
    data = torch.from_numpy(np.concatenate(rows))
    variance, components = torch.linalg.eigh(data.T @ data / len(data))
    variance, components = variance.flip(0)[:width], components.flip(1)[:, :width]
    rotation = torch.linalg.qr(torch.randn(width, width, generator=torch.Generator().manual_seed(seed)))[0]
    return (rotation @ (components / (variance + variance[-1]).sqrt()).T).reshape(width, 3, size, size)
