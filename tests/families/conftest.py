"""Which of these tests run: on the newest version of transformers all, on the others what is marked `every_version`."""

import os

import transformers

from hf_zspa.version import TESTED_TRANSFORMERS


def pytest_collection_modifyitems(config, items):
    if os.environ.get("TEST_ALL") or transformers.__version__ == TESTED_TRANSFORMERS[-1]:
        return
    mine = (item for item in items if "/families/" in item.path.as_posix())
    left_out = [item for item in mine if not item.get_closest_marker("every_version")]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]
