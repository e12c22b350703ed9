"""Scale images of up to 16 bits per channel to eight bits, by the range that their values fill."""

import numpy as np

DEPTHS = (8, 10, 12, 14)  # bits per channel that cameras and scanners store unscaled in 16 bits


def scale_to_uint8(image: np.ndarray) -> np.ndarray:
    """Return an image of uint16 (h, w) or (h, w, channels) as uint8: the upper eight bits of the range in use.

    The largest value gives the range: up to 255 it is 8 bits, up to 1023 10, up to 4095 12, up to 16383 14, else 16. A
    16-bit image that is so dark that no value exceeds a quarter of the range looks like one of 14 bits and becomes
    brighter, unless its values are eight bits spread over 16 (the low bytes are constant or repeat the high ones). The
    alpha channel, the last of two or four, does not count for the range and is clipped at 255. An image of uint8 is
    returned unchanged. Raises `ValueError` on other types.
    """
    if image.dtype == np.uint8:
        return image
    if image.dtype != np.uint16:
        raise ValueError(f"an image must be uint8 or uint16, not {image.dtype}")
    has_alpha = image.ndim == 3 and image.shape[2] in (2, 4)
    shift = find_depth(image[..., :-1] if has_alpha else image) - 8
    return np.minimum(image >> shift, 255).astype(np.uint8)


def find_depth(values: np.ndarray) -> int:
    """Return the depth in bits, 8 to 16, of the range that uint16 values fill; see `scale_to_uint8`."""
    largest = int(values.max(initial=0))
    depth = next((depth for depth in DEPTHS if largest < 2**depth), 16)
    return 16 if 8 < depth < 16 and _is_spread(values) else depth


def _is_spread(values: np.ndarray) -> bool:
    """Return whether values are eight bits in the high byte, with a low byte that is constant or a copy of it."""
    high, low = values >> 8, values & 255
    return bool(high.min() < high.max() and ((low == low.flat[0]).all() or (low == high).all()))
