"""Which tokens of a prompt are the question, where its images stand, and what prompts are refused: pure functions."""

from bisect import bisect_left
from collections.abc import Callable
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor


def question_mask(
    input_ids: Tensor, visible: Tensor, is_visual: Tensor, spans: list[tuple[int, int, int]], config: Any
) -> Tensor:
    """`prompt_mask` of what is text and belongs to no image: neither stands between its tokens nor, within the scope
    "query", was written in front of them by a processor.

    Args:
        input_ids: `(batch, length)` token ids of the prompt, int64, on the CPU as the rest is.
        visible: `(batch, length)` bool, False on padding.
        is_visual: `(batch, length)` bool, True on visual placeholders.
        spans: of each image its row, and the columns of its first and its last token.
        config: one with the fields of pruning.
    """
    special = torch.tensor(config.zspa_special_token_ids or [], dtype=torch.long)
    is_text = visible & ~torch.isin(input_ids, special) & ~is_visual
    scope, starts = config.zspa_prompt_scope, config.zspa_query_start_ids
    if scope == "query" and spans:
        begin = begin_of_query(input_ids, starts or []).flatten().tolist()
        opening = [marker[0] if isinstance(marker, list) else marker for marker in config.zspa_image_marker_ids or []]
        in_front = input_ids[:, :-1][is_visual[:, 1:] & ~is_visual[:, :-1] & ~is_text[:, :-1]]
        opens = torch.isin(input_ids, torch.cat([in_front, torch.tensor(opening, dtype=torch.long)]))
        opens &= ~is_text & ~is_visual
        of_row = is_text.tolist(), is_visual.tolist(), opens.tolist()
        spans = [(r, begin_of_image(first, begin[r], *(of[r] for of in of_row)), last) for r, first, last in spans]
    for row, first, last in spans:
        is_text[row, first : last + 1] = False
    return prompt_mask(input_ids, is_text, scope, starts, config.zspa_query_end_ids)


def prompt_mask(
    input_ids: Tensor,
    is_text: Tensor,
    scope: str,
    query_start_ids: list[list[int]] | None,
    query_end_ids: list[list[int]] | None,
) -> Tensor:
    """Which tokens an image's relevance is measured against.

    Args:
        input_ids: `(batch, length)` token ids of the prompt, int64.
        is_text: `(batch, length)` bool, False on padding, special tokens and visual placeholders.
        scope: "text" is all of `is_text`; "query" only what the last user turn says.
        query_start_ids: token sequences that open a user turn, any of them; None where the checkpoint has none.
        query_end_ids: token sequences that close it. A turn that no marker closes runs to the end of the prompt.

    Returns:
        `(batch, length)` bool. A row without a user turn, or whose last user turn has no text, gets all its text.
    """
    if scope == "text" or not query_start_ids:
        return is_text
    columns = torch.arange(input_ids.shape[1], device=input_ids.device)
    begin = begin_of_query(input_ids, query_start_ids)
    end = torch.full_like(begin, input_ids.shape[1])
    for marker in query_end_ids or []:
        closes = _starts_with(input_ids, marker) & (columns >= begin)
        end = torch.minimum(end, columns.where(closes, input_ids.shape[1]).amin(1, keepdim=True))
    query = is_text & (begin >= 0) & (columns >= begin) & (columns < end)
    return query.where(query.any(1, keepdim=True), is_text)


def begin_of_query(input_ids: Tensor, query_start_ids: list[list[int]]) -> Tensor:
    """`(batch, 1)`: the column behind the last marker of a user turn, -1 where there is none."""
    columns = torch.arange(input_ids.shape[1], device=input_ids.device)
    begin = torch.full_like(input_ids[:, :1], -1)
    for marker in query_start_ids:
        after = (columns + len(marker)).where(_starts_with(input_ids, marker), -1)
        begin = torch.maximum(begin, after.amax(1, keepdim=True))
    return begin


def begin_of_image(first: int, begin: int, is_text: list[bool], is_visual: list[bool], opens: list[bool]) -> int:
    """The column where an image begins, with the text that its processor writes in front of it, such as the time of a
    video's first frame or the name of a tile: text behind a special token that opens an image.

    Args:
        first: the column of its first token.
        begin: the column where the user turn begins, -1 where there is none.
        is_text: of each column of the row, False on special tokens.
        is_visual: of each column of the row.
        opens: of each column of the row, whether it is such a token.
    """

    def left_of(column: int, kind: Callable[[int], bool]) -> int:
        while column > begin and kind(column - 1):
            column -= 1
        return column

    behind = left_of(first, lambda c: not is_text[c] and not is_visual[c])
    written = left_of(behind, lambda c: is_text[c])
    is_the_processors = 0 <= begin < written < behind and opens[written - 1]
    return written if is_the_processors else first


def marks(input_ids: Tensor, markers: list[int | list[int]]) -> Tensor:
    """`(batch, length)` bool: the columns at which any of these tokens, or sequences of them, begins."""
    found = torch.zeros_like(input_ids, dtype=torch.bool)
    for marker in markers:
        found |= _starts_with(input_ids, marker if isinstance(marker, list) else [marker])
    return found


def _starts_with(input_ids: Tensor, marker: list[int]) -> Tensor:
    """`(batch, length)` bool: the columns at which the token sequence `marker` begins."""
    length = input_ids.shape[1]
    found = torch.zeros_like(input_ids, dtype=torch.bool)
    if not 0 < len(marker) <= length:
        return found
    windows = input_ids.unfold(1, len(marker), 1)
    found[:, : length - len(marker) + 1] = (windows == torch.tensor(marker, device=input_ids.device)).all(2)
    return found


def spans_of_images(spots: Tensor, images: list[Tensor]) -> list[tuple[int, int, int]]:
    """Per image its row, and the columns of its first and its last placeholder; `spots` `(batch, S)` has them all. Text
    between them, such as times between the frames of a video, belongs to it, and is no part of what is asked."""
    places = [p for p in spots.nonzero().split([len(image) for image in images]) if len(p)]
    return [(int(p[0, 0]), int(p[0, 1]), int(p[-1, 1])) for p in places]


def rows_of_images(placeholders: list[int], sizes: list[int], modality: str) -> list[int]:
    """The row of each image: a row's images fill its placeholders, one after the other.

    Args:
        placeholders: how many each row has.
        sizes: the tokens `n_i` of each image, of all rows in order.
        modality: "image" or "video", for the error.

    Raises:
        ValueError: the images do not fill the placeholders of whole rows.
    """
    row_ends, image_ends = list(accumulate(placeholders)), list(accumulate(sizes))
    rows = [bisect_left(row_ends, end) for end in image_ends]
    whole = all(
        r < len(row_ends) and row_ends[r] - end + n <= placeholders[r] for r, end, n in zip(rows, image_ends, sizes)
    )
    if not whole or image_ends[-1] != row_ends[-1]:
        raise ValueError(
            f"the rows of input_ids have {placeholders} {modality} placeholders, but the {modality}s "
            f"have {sizes} tokens: pass the processor's outputs unchanged"
        )
    return rows


def check_prompt(input_ids: Tensor | None, attention_mask: Tensor | None, embeds: Tensor | None) -> None:
    if input_ids is None or embeds is not None:
        raise ValueError("pruning reads the prompt from input_ids: pass them, not inputs_embeds")
    if attention_mask is not None and getattr(attention_mask, "shape", None) != input_ids.shape:
        found = getattr(attention_mask, "shape", type(attention_mask).__name__)
        raise ValueError(
            f"pruning needs an attention_mask of the shape of input_ids, {tuple(input_ids.shape)}, with 1 on "
            f"tokens and 0 on padding, but got {found}"
        )


def check_one_sample_per_row(described: dict[str, Any]) -> None:
    """Raises `ValueError` where a row of a call holds several samples: positions that start again, or the arguments
    that padding-free training describes samples with."""
    named = [n for n in ("cu_seq_lens_q", "cu_seq_lens_k", "cu_seqlens", "seq_idx") if described.get(n) is not None]
    positions, mask = described.get("position_ids"), described.get("attention_mask")
    if positions is not None:
        row = positions if positions.ndim == 2 else positions[0]
        falls = row.diff(dim=-1) < 0
        if bool((falls if mask is None else falls & (mask[:, 1:] * mask[:, :-1]).bool()).any()):
            named.append("position_ids")
    if named:
        raise ValueError(
            f"{' and '.join(named)} say that several samples are packed into one row, which cannot be pruned: give "
            "each sample a row of its own, or set zspa_keep_ratio to 1.0"
        )
