"""lmms-eval's functions for TextVQA: task files read functions from beside the file only."""

from lmms_eval.tasks.textvqa.utils import (
    textvqa_aggregate_submissions,
    textvqa_doc_to_text,
    textvqa_doc_to_visual,
    textvqa_process_results,
)

__all__ = [
    "textvqa_aggregate_submissions",
    "textvqa_doc_to_text",
    "textvqa_doc_to_visual",
    "textvqa_process_results",
]
