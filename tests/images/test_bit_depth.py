"""Images of 10, 12, 14 and 16 bits are scaled to eight bits."""

import numpy as np
import pytest

from agedge.faces.detector import check_image
from agedge.images.bit_depth import find_depth, scale_to_uint8

RAMP = np.arange(256, dtype=np.uint16).reshape(16, 16)


@pytest.mark.parametrize("depth", [8, 10, 12, 14, 16])
def test_eight_bits_shifted_to_any_depth_are_restored(depth):
    image = RAMP << (depth - 8)
    assert scale_to_uint8(image).dtype == np.uint8
    np.testing.assert_array_equal(scale_to_uint8(image), RAMP)
    np.testing.assert_array_equal(check_image(image)[..., 0], RAMP)


@pytest.mark.parametrize(
    "largest, depth",
    [(0, 8), (255, 8), (256, 10), (1023, 10), (1024, 12), (4095, 12), (4096, 14), (16383, 14), (16384, 16)]
    + [(65535, 16)],
)
def test_the_largest_value_gives_the_range(largest, depth):
    assert find_depth(np.array([0, largest // 3, largest], np.uint16)) == depth
    assert find_depth(np.full((4, 4, 3), largest, np.uint16)) == depth


def test_white_is_white_in_every_range():
    for white in (255, 1023, 4095, 16383, 65535):
        assert (scale_to_uint8(np.full((4, 4), white, np.uint16)) == 255).all()


@pytest.mark.parametrize("spread", [lambda dark: dark << 8, lambda dark: dark * 257, lambda dark: (dark << 8) + 255])
def test_dark_eight_bits_that_were_spread_over_sixteen_stay_dark(spread):
    dark = RAMP // 8  # at most 31
    np.testing.assert_array_equal(scale_to_uint8(spread(dark)), dark)


def test_the_alpha_channel_does_not_count_for_the_range():
    colour = np.dstack([RAMP << 4] * 3)
    alpha = np.full((16, 16, 1), 65535, np.uint16)
    scaled = scale_to_uint8(np.concatenate([colour, alpha], axis=2))
    np.testing.assert_array_equal(scaled[..., :3], np.dstack([RAMP] * 3))
    assert (scaled[..., 3] == 255).all()
    np.testing.assert_array_equal(scale_to_uint8(np.concatenate([colour[..., :1], alpha], axis=2))[..., 0], RAMP)


def test_eight_bits_are_not_copied_and_other_types_are_refused():
    image = np.zeros((3, 4, 3), np.uint8)
    assert scale_to_uint8(image) is image
    with pytest.raises(ValueError, match="float32"):
        scale_to_uint8(image.astype(np.float32))
    assert scale_to_uint8(np.empty((0, 4), np.uint16)).shape == (0, 4)
