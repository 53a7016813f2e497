"""TRL looks for vLLM by its name, and tests/vllm is on the path."""

import sys

sys.modules.setdefault("vllm", None)
