"""Positions of the full sequence for what is kept of it: models with one row of them, and models with three.

Which tokens are kept is known only after the image has been encoded, but vLLM numbers a prompt before. So kept tokens
get the position of their image's first one, and how far each is from there travels in extra columns of its embedding.
vLLM hands these to `recompute_mrope_positions`, which fills in the positions and cuts the columns off.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from .internals import ask_for_positions_after_encoding, lengthen_rotary_embeddings
from .processing import VISUAL, ZspaProcessorMixin, placeholder_ids, positions_of
from .pruning import ROWS, ZspaModelMixin

BASE, DIGITS = 128, 3  # places are written in digits, because 16-bit floats are exact only up to 256


@dataclass(frozen=True)
class Item:
    """An image or video in a prompt.

    Attributes:
        offset: the column of its first placeholder.
        kept: its placeholders in the prompt.
        after: how far the position of the text behind it is from that of its own first token.
    """

    offset: int
    kept: int
    after: int


class _PositionsMixin(ZspaModelMixin):
    supports_mrope: ClassVar[Literal[True]] = True
    supports_multimodal_pruning: ClassVar[Literal[True]] = True
    supported_video_pruning_methods = ("evs",)
    place_rows = ROWS  # of what travels with each kept token

    def after(self, feature: Any) -> int:
        """How far the position of the text behind an image or video is from that of its own first token."""
        raise NotImplementedError

    def items(self, mm_features: Sequence[Any]) -> list[Item]:
        """The images and videos of a prompt, in their order."""
        found = []
        for feature in sorted(mm_features, key=lambda feature: feature.mm_position.offset):
            place = feature.mm_position
            first = 0 if place.is_embed is None else int(place.is_embed.nonzero()[0])
            found.append(Item(place.offset + first, place.get_num_embeds(), self.after(feature)))
        return found

    def place(self, positions: Tensor, where: Tensor, places: Tensor, text: Tensor) -> None:
        """Fills in the positions of what is kept of an image.

        Args:
            positions: `(3, n)` of a prompt, changed in place.
            where: its columns `(l,)`, at least one.
            places: how far each is from the image's first token, `(place_rows, l)`.
            text: which tokens of the prompt are text, `(n,)` bool, on the CPU.
        """
        raise NotImplementedError

    def get_mrope_input_positions(self, input_tokens: list[int], mm_features: Sequence[Any]) -> tuple[Tensor, int]:
        return prompt_positions(len(input_tokens), self.items(mm_features))

    def recompute_mrope_positions(
        self, input_ids: Any, multimodal_embeddings: Sequence[Tensor], mrope_positions: Tensor, num_computed_tokens: int
    ) -> tuple[Sequence[Tensor], Tensor, int]:
        """vLLM calls it for every request in every step; most have no image in the step."""
        if not multimodal_embeddings:
            return multimodal_embeddings, mrope_positions, delta_of(mrope_positions)
        positions, ids = mrope_positions.clone(), torch.as_tensor(input_ids).cpu()
        text = ~torch.isin(ids, torch.tensor(placeholder_ids(self.config)))
        features = []
        for embeddings, where in zip(
            multimodal_embeddings, columns_of(multimodal_embeddings, text, num_computed_tokens)
        ):
            kept, places = without_digits(embeddings, self.place_rows)
            if len(where):
                self.place(positions, where.to(positions.device), places.to(positions.device), text)
            features.append(kept)
        return features, positions, delta_of(positions)


class OneRowMixin(_PositionsMixin):
    """Comes before a model class with one row of positions.

    vLLM's M-RoPE has three, of which the language model gets the first. The second keeps the position of the image's
    first token, from which the first can be filled in any number of times, and the third that of its last token before
    pruning, so that the greatest position of a prompt is right whatever was dropped.
    """

    place_rows = 1

    def __init__(self, *, vllm_config: Any, prefix: str = ""):
        super().__init__(vllm_config=vllm_config, prefix=prefix)
        self.zspa_positions = self.config.zspa_position_ids == "preserve"
        if self.zspa_positions:
            ask_for_positions_after_encoding(vllm_config)
            room = vllm_config.model_config.max_model_len  # for the answer, behind what the unpruned prompt reaches
            lengthen_rotary_embeddings(self, positions_of(vllm_config.model_config) + room)

    def language_positions(self, positions: Tensor) -> Tensor:
        """Plain positions `(n,)`, one behind the other in memory: kernels and compiled models expect no others."""
        return positions[0].contiguous() if positions.ndim == 2 else positions

    def with_places(
        self, rows: Tensor, columns: Tensor, stretch: Tensor, kwargs: Mapping[str, Any], modality: str, place: int
    ) -> Tensor:
        return with_digits(rows, columns[None]) if self.zspa_positions else rows

    def after(self, feature: Any) -> int:
        return len(feature.data[f"zspa_{feature.modality}_stretch"].data)

    def get_mrope_input_positions(self, input_tokens: list[int], mm_features: Sequence[Any]) -> tuple[Tensor, int]:
        positions, delta = super().get_mrope_input_positions(input_tokens, mm_features)
        for item in self.items(mm_features):
            positions[2, item.offset : item.offset + item.kept] += item.after - 1
        return positions, delta

    def place(self, positions: Tensor, where: Tensor, places: Tensor, text: Tensor) -> None:
        positions[0, where] = positions[1, where] + places[0]


class MropeProcessorMixin(ZspaProcessorMixin):
    """Comes before the processor of a model with three rows of positions."""

    modalities = ("image", "video")
    columns_are_positions = False

    def apply(self, inputs: Any, timing_ctx: Any) -> Any:
        """Checked first: what vLLM's cache of processed images has seen must reach the engine."""
        placeholders = {*placeholder_ids(self.info.get_hf_config())}
        are = [token in placeholders for token in inputs.prompt]
        if not all(are) and (are[-1] or any(one and other for one, other in zip(are, are[1:]))):  # dummies have no text
            raise ValueError(
                "the prompt has no token of text between two images or videos, or behind the last, by which their "
                "positions are told: write each between the tokens that begin and end it, as the chat template does"
            )
        return super().apply(inputs, timing_ctx)


class MropeMixin(_PositionsMixin):
    """Comes before a model class with M-RoPE: a merged patch has a position in time, one in height and one in width.

    The text between the frames of a video, where there is any, goes on after each as it would after an image.
    """

    zspa_processor = MropeProcessorMixin
    zspa_flat = {
        "pixel_values": "image_grid_thw", "image_embeds": "image_grid_thw",
        "pixel_values_videos": "video_grid_thw", "video_embeds": "video_grid_thw",
    }  # fmt: skip

    def __init__(self, *, vllm_config: Any, prefix: str = ""):
        ask_for_positions_after_encoding(vllm_config)  # first: Qwen3-VL makes its rotary embedding long enough by it
        super().__init__(vllm_config=vllm_config, prefix=prefix)
        self.is_multimodal_pruning_enabled = False  # the stock class would number and drop tokens of its own accord

    def with_places(
        self, rows: Tensor, columns: Tensor, stretch: Tensor, kwargs: Mapping[str, Any], modality: str, place: int
    ) -> Tensor:
        seconds = kwargs.get("second_per_grid_ts")
        places, _ = self._places(
            stretch, kwargs[f"{modality}_grid_thw"][place], None if seconds is None else seconds[place], modality
        )
        return with_digits(rows, places[:, columns])

    def after(self, feature: Any) -> int:
        data, seconds = feature.data, feature.data.get("second_per_grid_ts")
        kind = feature.modality
        stretch, grid = data[f"zspa_{kind}_stretch"].data, data[f"{kind}_grid_thw"].data
        return self._places(stretch, grid, None if seconds is None else seconds.data, kind)[1]

    def _places(self, stretch: Tensor, grid: Tensor, seconds: Any, modality: str) -> tuple[Tensor, int]:
        """Positions `(3, s)` of a stretch from that of its first token on, and that of the text behind it."""
        vision = self.config.vision_config
        height, width = (side // vision.spatial_merge_size for side in grid.tolist()[1:])
        step = 1.0 if seconds is None else float(seconds)
        step *= getattr(vision, "tokens_per_second", 1.0) if modality == "video" else 1.0
        found, start = [], 0
        for visual, run in groupby((stretch == VISUAL).tolist()):
            length = len(list(run))
            if visual:
                frames = length // (height * width)
                time = (torch.arange(frames) * step).long()
                found.append(torch.cartesian_prod(time, torch.arange(height), torch.arange(width)).T + start)
                start += max(int(time[-1]), height - 1, width - 1) + 1
            else:
                found.append(torch.arange(start, start + length).expand(ROWS, -1))
                start += length
        return torch.cat(found, 1), start

    def place(self, positions: Tensor, where: Tensor, places: Tensor, text: Tensor) -> None:
        """Every image stands between two tokens of text, whose positions say where it begins."""
        before = text[: int(where[0])].nonzero()[-1:, 0]
        start = positions[0, before.to(positions.device)].sum() + len(before)  # 0 where there is none
        positions[:, where] = start + places


def with_digits(features: Tensor, places: Tensor) -> Tensor:
    """Features `(l, d)` with the places `(rows, l)` of their tokens behind them, `(l, d + DIGITS · rows)`."""
    digits = torch.stack([places // BASE**power % BASE for power in range(DIGITS)], 1).flatten(0, 1)
    return torch.cat([features, digits.T.to(features)], 1)


def without_digits(embeddings: Tensor, rows: int) -> tuple[Tensor, Tensor]:
    """Features `(l, d)` and places `(rows, l)` of what `with_digits` made."""
    width = DIGITS * rows
    digits = embeddings[:, -width:].long().T.unflatten(0, (rows, DIGITS))
    return embeddings[:, :-width], sum(digits[:, power] * BASE**power for power in range(DIGITS))


def prompt_positions(length: int, items: Sequence[Item]) -> tuple[Tensor, int]:
    """Positions `(ROWS, length)` of a prompt, those of text as in the unpruned one, those of an image all that of its
    first token; and by how much the position of a later token exceeds its column."""
    parts: list[Tensor] = []
    column = position = 0
    for item in items:
        text = item.offset - column
        parts.append(torch.arange(position, position + text))
        position += text
        parts.append(torch.full((item.kept,), position))
        position += item.after
        column = item.offset + item.kept
    text = length - column
    parts.append(torch.arange(position, position + text))
    return torch.cat(parts).repeat(ROWS, 1), position + text - length


def columns_of(embeddings: Sequence[Tensor], text: Tensor, computed: int) -> list[Tensor]:
    """The columns `(l,)` of the prompt that each of the embeddings fills: those that are not `text` `(n,)`, from column
    `computed` on, in their order. An image that an earlier step has computed a part of is given from there on."""
    spots = (~text).nonzero()[:, 0]
    spots = spots[spots >= computed]
    return list(spots[: sum(map(len, embeddings))].split([len(e) for e in embeddings])) if len(embeddings) else []


def delta_of(positions: Tensor) -> int:
    """By how much the position of a later token exceeds its column, from the positions `(rows, n)` of a prompt, whose
    last token has the greatest in one of its rows."""
    return int(positions[:, -1].max()) + 1 - positions.shape[1]
