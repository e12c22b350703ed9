"""Images of up to 16 bits a channel as eight bits, by the range that their values fill."""

import numpy as np

DEPTHS = (8, 10, 12, 14)  # bits a channel that cameras and scanners store, unscaled, in 16


def scale_to_uint8(image: np.ndarray) -> np.ndarray:
    """Return an image of uint16 (h, w) or (h, w, channels) as uint8: the upper eight bits of the range in use.

    The largest value tells the range: up to 255 it is 8 bits, up to 1023 10, up to 4095 12, up to 16383 14, and 16
    above. A true 16-bit picture so dark that nothing in it exceeds a quarter of the range cannot be told from one of
    14 bits and becomes brighter, except where its values are eight bits spread over 16 (the low bytes are all alike or
    repeat the high ones). The alpha channel, the last of two or four, has no say in the range and is cut off at 255.
    An image of uint8 comes back itself. Raises `ValueError` on other types.
    """
    if image.dtype == np.uint8:
        return image
    if image.dtype != np.uint16:
        raise ValueError(f"an image of uint8 or uint16 is needed, not {image.dtype}")
    has_alpha = image.ndim == 3 and image.shape[2] in (2, 4)
    shift = find_depth(image[..., :-1] if has_alpha else image) - 8
    return np.minimum(image >> shift, 255).astype(np.uint8)


def find_depth(values: np.ndarray) -> int:
    """Return the bits, 8 to 16, of the range that values of uint16 fill; see `scale_to_uint8`."""
    largest = int(values.max(initial=0))
    depth = next((depth for depth in DEPTHS if largest < 2**depth), 16)
    return 16 if 8 < depth < 16 and _is_spread(values) else depth


def _is_spread(values: np.ndarray) -> bool:
    """Return whether values are eight bits in the upper byte, the lower one being constant or a copy of it."""
    high, low = values >> 8, values & 255
    return bool(high.min() < high.max() and ((low == low.flat[0]).all() or (low == high).all()))
