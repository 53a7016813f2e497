"""Which tokens of a prompt are the question: pure functions on token ids."""

import torch
from torch import Tensor

SCOPES = ("query", "text")


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
    begin = torch.full_like(input_ids[:, :1], -1)
    for marker in query_start_ids:
        after = (columns + len(marker)).where(_starts_with(input_ids, marker), -1)
        begin = torch.maximum(begin, after.amax(1, keepdim=True))
    end = torch.full_like(begin, input_ids.shape[1])
    for marker in query_end_ids or []:
        closes = _starts_with(input_ids, marker) & (columns >= begin)
        end = torch.minimum(end, columns.where(closes, input_ids.shape[1]).amin(1, keepdim=True))
    query = is_text & (begin >= 0) & (columns >= begin) & (columns < end)
    return query.where(query.any(1, keepdim=True), is_text)


def _starts_with(input_ids: Tensor, marker: list[int]) -> Tensor:
    """`(batch, length)` bool: the columns at which the token sequence `marker` begins."""
    length = input_ids.shape[1]
    found = torch.zeros_like(input_ids, dtype=torch.bool)
    if not 0 < len(marker) <= length:
        return found
    windows = input_ids.unfold(1, len(marker), 1)
    found[:, : length - len(marker) + 1] = (windows == torch.tensor(marker, device=input_ids.device)).all(2)
    return found
