"""What a vision encoder returns, in each version of transformers, and how a model is given less of it."""

import functools
import inspect
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .zspa_compat import HAS_OUTPUT_OBJECTS

MODALITIES = ("image", "video")


def encoder_arguments(base) -> dict[str, tuple[str, ...]]:
    """Modality → the arguments of `get_<modality>_features` of a base model, as `forward` names them, the pixels
    first."""
    found = {}
    for modality in MODALITIES:
        encode = getattr(base, f"get_{modality}_features", None)
        if encode is not None:
            parameters = inspect.signature(encode).parameters
            names = [name for name, p in parameters.items() if p.kind is not p.VAR_KEYWORD]
            # 4.57's LLaVA hands it on without naming it.
            unnamed = ["image_sizes"] if len(names) < len(parameters) and "image_sizes" not in names else []
            others = ("return_dict", "output_hidden_states", "output_attentions")
            if modality == "video":  # before 5.19 some call them pixel_values here, as they do an image's
                names = ["pixel_values_videos", *names[1:]]
            found[modality] = tuple(name for name in names + unnamed if name not in others)
    return found


def as_output() -> dict[str, Any]:
    """What makes features come back as an output object, whatever the config asks for; on 4.x they are none."""
    return {"return_dict": True} if HAS_OUTPUT_OBJECTS else {}


@dataclass(frozen=True)
class EncoderOutput:
    """An encoder's output as visual tokens per image, of which fewer can be kept.

    Attributes:
        images: per image the visual tokens `(n_i, d)` that the prompt's placeholders stand for.
        layers: the same for each layer of deepstack; None where there is none.
        form: the types that the encoder returned.
    """

    images: list[Tensor]
    layers: list[list[Tensor]] | None
    form: "_Form"

    @classmethod
    def of(cls, output, sizes: list[int] | None = None) -> "EncoderOutput":
        """That of what an encoder returned.

        Args:
            sizes: the tokens `n_i` of each image, where an entry of the output is not one; None where it is.

        Raises:
            ValueError: the output has not as many tokens.
        """
        bare = not hasattr(output, "pooler_output")
        pair = bare and isinstance(output, tuple) and isinstance(output[0], (list, tuple))
        features, layers = output if pair else (output, None)
        if not bare:
            features, layers = output.pooler_output, getattr(output, "deepstack_features", None)
        if sizes is None:
            images = list(features)
            if any(image.ndim == 1 for image in images):
                raise ValueError(
                    "this version of transformers does not tell one image of the model from the next: use a later one"
                )
        else:
            tokens = _flat(features)
            if sum(sizes) != len(tokens):
                raise ValueError(
                    f"the images of input_ids have {sizes} placeholders, but the encoder made {len(tokens)} tokens of "
                    "the pixels: pass the processor's outputs unchanged"
                )
            images = list(tokens.split(sizes))
        sizes = [len(image) for image in images]
        by_layer = None if layers is None else [list(_flat(layer).split(sizes)) for layer in layers]
        flat_layers = layers is not None and isinstance(layers[0], Tensor)
        return cls(images, by_layer, _Form(type(output), bare, pair, isinstance(features, Tensor), flat_layers))

    def kept(self, indices: list[Tensor], merged: list[Tensor] | None = None) -> "EncoderOutput":
        """With the tokens `(l_i,)` of each image and no others; where they are given, `merged` `(l_i, d)` in their
        places.

        Raises:
            ValueError: there is nothing to stand in their places in deepstack.
        """
        if merged is not None and self.layers is not None:
            raise ValueError(
                "this model adds features of its vision tower to visual tokens in later layers, which merged tokens "
                "have none of: choose a pruner that keeps tokens as they are"
            )
        if merged is not None:
            return EncoderOutput(merged, None, self.form)
        return self._changed(lambda images: [f[i.to(f.device)] for f, i in zip(images, indices)])

    def ordered(self, order: list[int]) -> "EncoderOutput":
        """With the images in another order, which may repeat some."""
        return self._changed(lambda images: [images[i] for i in order])

    def _changed(self, change) -> "EncoderOutput":
        layers = None if self.layers is None else [change(layer) for layer in self.layers]
        return EncoderOutput(change(self.images), layers, self.form)

    def stock(self) -> Any:
        """In the types that the encoder returned."""
        features: Any = self.images
        layers: Any = self.layers
        if self.form.stacked:
            even = len({len(image) for image in features}) == 1
            features = torch.stack(features) if even else torch.cat(features)[:, None]
        if self.form.flat_layers:
            layers = [torch.cat(layer) for layer in layers]
        if self.form.bare:
            return (features, layers) if self.form.pair else features
        output = self.form.type()
        output.pooler_output = features  # which not every class that carries it declares
        if layers is not None:
            output.deepstack_features = layers
        return output


@dataclass(frozen=True)
class _Form:
    """Late 5.x returns an output object, 4.x `bare` features, or a `pair` of them and deepstack's. Features are a list
    with an entry `(n, d)` for each image, tile or row, or `stacked`, a tensor `(entries, n, d)`; those of a layer of
    deepstack are a list too, or `flat`, one tensor `(N, d)`."""

    type: type
    bare: bool
    pair: bool
    stacked: bool
    flat_layers: bool


def _flat(features) -> Tensor:
    if not isinstance(features, Tensor):
        features = torch.cat(list(features))
    return features.flatten(0, -2)


class Encoded:
    """Stands for pixels that are encoded already, in a call of a model that encodes them itself."""

    def __init__(self, output, count: int):
        self.output = output
        self.count = count

    def size(self, dim: int) -> int:
        return self.count


class HandedOver(dict):
    """Encoder outputs of a prompt that is packed already."""


def takes_encoder_outputs(base) -> bool:
    """Whether a base model can be given what its encoder would return: from 5.19 on."""
    return "mm_encoder_outputs" in inspect.signature(base.forward).parameters


def hand_over(base, outputs: dict[str, EncoderOutput]) -> dict[str, Any]:
    """The arguments by which a base model is given what its encoder would return, by modality.

    From 5.19 on they are `mm_encoder_outputs`. Before, the model is given `Encoded` pixels, and `answered` is how it
    gets them back when it asks for features.
    """
    if takes_encoder_outputs(base):
        return {"mm_encoder_outputs": HandedOver({modality: output.stock() for modality, output in outputs.items()})}
    return {base.visual_inputs[m][0]: Encoded(output.stock(), len(output.images)) for m, output in outputs.items()}


def is_handed_over(kwargs: dict) -> bool:
    """Whether a call's visual tokens are those that `hand_over` has handed over."""
    return any(isinstance(value, (Encoded, HandedOver)) for value in kwargs.values())


def answered(get_features):
    """`get_image_features` or `get_video_features` of a base model, with `Encoded` pixels answered at once."""

    @functools.wraps(get_features)
    def get(self, *args, **kwargs):
        known = [value.output for value in (*args, *kwargs.values()) if isinstance(value, Encoded)]
        return known[0] if known else get_features(self, *args, **kwargs)

    return get


@contextmanager
def loaded(module):
    """Loads what accelerate keeps elsewhere until a module's `forward`: features are encoded outside of it."""
    hook = getattr(module, "_hf_hook", None)
    if hook is not None:
        hook.pre_forward(module)
    try:
        yield
    finally:
        if hook is not None:
            hook.post_forward(module, ())
