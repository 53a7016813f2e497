"""The embedded model: a small LLaVA trained from scratch on synthetic scenes, shipped in the package."""

from pathlib import Path

CHECKPOINT = Path(__file__).parent / "checkpoint"
EXAMPLES = Path(__file__).parent / "examples"
