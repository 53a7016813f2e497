"""The README.md of a checkpoint, which the Hub shows as its model card: what is written, and what is left alone.

A card is metadata and text. Of the text, what stands between the two markers is written anew each time; all else is
the owner's. Of the metadata, what is missing is added, and what is there stays as it was typed.
"""

from .front_matter import metadata_of
from .merge import merged
from .own_text import pinned_revision, read_card
from .text import PICTURE
from .writing import SHIPPED_PICTURE, base_metadata, card, picture_caption

__all__ = [
    "PICTURE",
    "SHIPPED_PICTURE",
    "base_metadata",
    "card",
    "merged",
    "metadata_of",
    "picture_caption",
    "pinned_revision",
    "read_card",
]
