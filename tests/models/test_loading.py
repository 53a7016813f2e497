"""What an evaluation sets when it loads a checkpoint: the area of images, the device."""

import numpy as np
import pytest
import tiny
import torch

from hf_zspa import AutoModelForVision2Seq
from hf_zspa.checkpoints.resolve import checkpoint_folder
from hf_zspa.evaluation.loading import Settings, load

QWEN = "embedded-qwen"
CELL = 12 * 12  # pixels of a visual token


def visual_tokens(processor, side):
    """Of an image and of a frame pair of a video of this side, once they are scaled."""
    image = processor.image_processor(images=[tiny.random_image(side, side)], return_tensors="pt")
    video = processor.video_processor(videos=[tiny.random_video(2, side, side)], return_tensors="pt")
    return int(image["image_grid_thw"].prod()) // 4, int(video["video_grid_thw"].prod()) // 4


@pytest.mark.parametrize(
    ("side", "bounds", "expected"),
    [
        (168, {"max_pixels": 100 * CELL, "min_pixels": 25 * CELL}, 100),
        (24, {"max_pixels": 100 * CELL, "min_pixels": 25 * CELL}, 25),
        (168, {"max_pixels": 64 * CELL}, 64),  # below the checkpoint's own smallest area, 100 cells
        (36, {"min_pixels": 225 * CELL}, 225),  # above its largest, 196 cells
    ],
)
def test_the_area_of_images_and_of_frames_stays_within_the_bounds(side, bounds, expected):
    _, processor = load(checkpoint_folder(QWEN), True, Settings("cpu", **bounds))
    assert visual_tokens(processor, side) == (expected, expected)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"min_pixels": 300, "max_pixels": 200}, "min_pixels is 300, but must not be above max_pixels, which is 200"),
        ({"max_pixels": 0}, "max_pixels 0, but an area is at least 1"),
        ({"min_pixels": -1}, "min_pixels is -1"),
        ({"device": "cuda:99"}, "device is 'cuda:99', but torch sees"),
        ({"device": "graphics"}, "device is 'graphics', but must be such as cpu or cuda:0"),
        ({"device": "cpu", "device_map": "auto"}, r"give device \(cpu\) or device_map \(auto\)"),
    ],
)
def test_what_cannot_be_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        load(checkpoint_folder(QWEN), True, Settings(**settings))


def test_a_gpu_is_refused_where_torch_sees_none(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="device is 'cuda', but torch sees no GPU: choose another"):
        load(checkpoint_folder(QWEN), True, Settings("cuda"))


def test_without_bounds_the_checkpoints_own_stay(monkeypatch):
    _, processor = load(checkpoint_folder(QWEN), True, Settings("cpu"))
    image = processor.image_processor(images=[np.zeros((600, 600, 3), np.uint8)], return_tensors="pt")
    assert int(image["image_grid_thw"].prod()) // 4 == 196


def test_the_packages_own_class_loads_nothing_unpruned_that_is_to_prune(base_checkpoint):
    folder, base = checkpoint_folder("embedded"), base_checkpoint("llava")
    model = AutoModelForVision2Seq.from_pretrained(folder, trust_remote_code=True, zspa_keep_ratio=0.2)
    assert model.config.zspa_keep_ratio == 0.2 and hasattr(model, "select_visual_tokens")
    for fields in ({}, {"zspa_keep_ratio": 0.2}):
        with pytest.raises(ValueError, match="prunes by its own code, and would be loaded unpruned"):
            AutoModelForVision2Seq.from_pretrained(folder, **fields)
    for trust in ({}, {"trust_remote_code": True}):
        with pytest.raises(
            ValueError,
            match=r"zspa_keep_ratio is for zspa checkpoints, and .* is none: load it with hf_zspa",
        ):
            AutoModelForVision2Seq.from_pretrained(base, zspa_keep_ratio=0.2, **trust)
        assert type(AutoModelForVision2Seq.from_pretrained(base, **trust)).__name__ == tiny.STOCK["llava"]
