"""Simulate light and camera effects in a scene: exposure, colour of the light, fog, blur, noise, JPEG."""

import cv2
import numpy as np


def relight(image: np.ndarray, rng: np.random.Generator, strength: float = 1.0) -> np.ndarray:
    """Change brightness, contrast and colour of an image (h, w, 3) uint8, with one lookup table per channel."""
    ramp = np.arange(256, dtype=np.float32) / 255
    gamma = np.exp(rng.normal(0, 0.25 * strength))
    gains = np.exp(rng.normal(0, 0.06 * strength, 3)) * np.exp(rng.normal(0, 0.12 * strength))
    contrast, lift = 1 + rng.normal(0, 0.12 * strength), rng.normal(0, 0.05 * strength)
    table = ((ramp**gamma - 0.5) * contrast + 0.5 + lift)[:, None] * gains
    return cv2.LUT(image, np.clip(table * 255, 0, 255).astype(np.uint8)[:, None])


def light_from_side(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Light an image (h, w, 3) uint8 from one side."""
    height, width = image.shape[:2]
    angle = rng.uniform(0, 2 * np.pi)
    across = np.linspace(-0.5, 0.5, width, dtype=np.float32)[None] * np.float32(np.cos(angle))
    down = np.linspace(-0.5, 0.5, height, dtype=np.float32)[:, None] * np.float32(np.sin(angle))
    dark, bright = rng.uniform(0.15, 0.6), rng.uniform(0.9, 1.3)
    lit = np.clip((dark + bright) / 2 + (bright - dark) * (across + down) * rng.uniform(1, 2.5), dark, bright)
    return cv2.multiply(image, cv2.merge([lit] * 3), dtype=cv2.CV_8U)


def blur(image: np.ndarray, rng: np.random.Generator, most: float) -> np.ndarray:
    """Blur an image by up to `most` pixels: out of focus, or by motion."""
    width = rng.uniform(0.3, max(most, 0.35))
    if rng.random() < 0.7:
        return cv2.GaussianBlur(image, (0, 0), width)
    length = max(2, round(2 * width))
    kernel = np.zeros((length, length), np.float32)
    kernel[length // 2] = 1 / length
    rotation = cv2.getRotationMatrix2D(((length - 1) / 2,) * 2, rng.uniform(0, 180), 1)
    kernel = cv2.warpAffine(kernel, rotation, (length, length))
    return cv2.filter2D(image, -1, kernel / max(kernel.sum(), 1e-3), borderType=cv2.BORDER_REPLICATE)


def simulate_camera(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a scene with the random effects of light and of a camera."""
    image = relight(image, rng)
    if rng.random() < 0.18:  # dark, like a webcam at night
        image = cv2.convertScaleAbs(image, alpha=rng.uniform(0.1, 0.5), beta=rng.uniform(0, 20))
    elif rng.random() < 0.12:  # against the light, or in fog
        image = cv2.convertScaleAbs(image, alpha=rng.uniform(0.4, 0.8), beta=rng.uniform(40, 100))
    height, width = image.shape[:2]
    small = rng.random() < 0.2  # like a small photograph that is enlarged before detection
    if small:
        share = rng.uniform(0.35, 0.8)
        image = cv2.resize(image, None, fx=share, fy=share, interpolation=cv2.INTER_AREA)
    if rng.random() < 0.1:
        image = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
    if rng.random() < 0.2:
        image = blur(image, rng, 1.6)
    if rng.random() < 0.3:
        noise = np.empty(image.shape, np.int16)
        cv2.setRNGSeed(int(rng.integers(2**31)))  # three times as fast as NumPy's
        # In the blue channel only, as in the training of the shipped detector.
        cv2.randn(noise, np.zeros(3), np.array([rng.uniform(2, 14), 0, 0]))
        image = cv2.add(image, noise, dtype=cv2.CV_8U)
    if rng.random() < 0.5:
        quality = int(rng.uniform(25, 92))
        image = cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR) if small else image
