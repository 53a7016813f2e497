"""A picture in a file as RGB: what a browser shows of it."""

import numpy as np
import pytest
from PIL import Image

from hf_zspa.models.given import as_rgb, open_image
from hf_zspa.tuning.pictures import digests

RAMP = np.linspace(0, 255, 48, dtype=np.uint8).reshape(6, 8)
COLOURS = np.stack([RAMP, RAMP[::-1], RAMP.T.reshape(6, 8)], axis=-1)


def grey(values):
    return np.repeat(values[..., None], 3, axis=-1)


def deep(order="<"):
    """16 bits of the same brightness, as a scanner or a microscope writes them."""
    return Image.fromarray((RAMP.astype(np.uint16) * 257).astype(f"{order}u2"))


SAVED = {
    "16 bits": ("a.png", deep(), grey(RAMP)),
    "16 bits, TIFF": ("a.tif", deep(), grey(RAMP)),
    "16 bits, big-endian": ("a.tif", deep(">"), grey(RAMP)),
    "16 bits, PGM": ("a.pgm", deep().convert("I"), grey(RAMP)),
    "8 bits": ("a.png", Image.fromarray(RAMP), grey(RAMP)),
    "1 bit": ("a.png", Image.fromarray(RAMP > 99), grey((RAMP > 99) * np.uint8(255))),
    "grey with alpha": ("a.png", Image.fromarray(RAMP).convert("LA"), grey(RAMP)),
    "palette": ("a.png", Image.fromarray(RAMP).convert("P"), grey(RAMP)),
    "colours": ("a.png", Image.fromarray(COLOURS), COLOURS),
}


@pytest.mark.parametrize("name", SAVED)
def test_a_picture_has_the_colours_that_it_was_saved_with(tmp_path, name):
    file, image, expected = SAVED[name]
    image.save(tmp_path / file)
    found = open_image(tmp_path / file)
    assert found.mode == "RGB" and np.array_equal(np.asarray(found), expected)


def test_a_palette_keeps_its_colours_where_one_of_them_is_transparent(tmp_path):
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((1, 0), 1)
    image.save(tmp_path / "a.png", transparency=0)
    assert np.asarray(open_image(tmp_path / "a.png")).tolist() == [[[10, 20, 30], [200, 100, 50]]]


def test_the_inks_of_a_cmyk_jpeg_are_subtracted(tmp_path):
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(tmp_path / "a.jpg", quality=100)
    red, *others = np.asarray(open_image(tmp_path / "a.jpg")).mean((0, 1))
    assert red > 250 and max(others) < 5


def test_sixteen_bits_are_turned_upright_as_others_are(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn to the right
    deep().save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(np.asarray(open_image(tmp_path / "a.png")), grey(np.rot90(RAMP, -1)))


@pytest.mark.parametrize("order", "<>")
def test_an_image_in_memory_is_the_same(order):
    assert np.array_equal(np.asarray(as_rgb(deep(order))), grey(RAMP))


def test_a_row_to_tune_on_is_the_same_from_a_file_and_in_memory(tmp_path):
    deep().save(tmp_path / "a.png")
    in_file, in_memory = digests([(tmp_path / "a.png", "what?"), (deep(), "what?")])
    assert in_file == in_memory


@pytest.mark.parametrize("mode", "FI")
def test_numbers_without_a_range_are_refused(mode):
    with pytest.raises(ValueError, match=f"numbers of mode {mode} do not say what is white: save it as a PNG"):
        as_rgb(Image.new(mode, (2, 2), 1))
