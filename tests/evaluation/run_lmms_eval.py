"""lmms-eval's command line, after the shim that lets torchvision be imported where its operators do not load."""

import tiny  # noqa: F401
from lmms_eval.__main__ import cli_evaluate

if __name__ == "__main__":
    cli_evaluate()
