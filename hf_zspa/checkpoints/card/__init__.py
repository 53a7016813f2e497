"""The README.md of a checkpoint, which the Hub shows as its model card: what is written, and what is left alone.

A card is metadata and text. Of the text, what stands between the two markers is written anew each time; all else is
the owner's. Of the metadata, what is missing is added, and what is there stays as it was typed.
"""

from .metadata import metadata_of
from .own_text import TUNED, chosen, pinned_tag, read_card, tuned_line
from .results import measured
from .text import PICTURE
from .writing import base_metadata, refreshed_card, write_card

__all__ = [
    "PICTURE",
    "TUNED",
    "base_metadata",
    "chosen",
    "measured",
    "metadata_of",
    "pinned_tag",
    "read_card",
    "refreshed_card",
    "tuned_line",
    "write_card",
]
