"""Width of the label distribution of an exact age: one width, one that grows with age, or one learnt for each age.

Gao et al. 2017 ("Deep label distribution learning with label ambiguity") have one for all. Wen et al. 2020 ("Adaptive
variance based label distribution learning for facial age estimation", ECCV) adapt it to each face, by a second network
trained on a held-out set. Here it belongs to the age, and one number for each age is learnt beside the network: the
width becomes the mean error of the network at that age, in years, by the likelihood of its errors under a Laplace
distribution, which is greatest at their mean.

The divergence between label and prediction cannot choose the width of a network that is not certain. Of labels
40 +- 5 years and the best prediction, the KL divergence is 1.63 at a width of 1 year, 0.81 at 2.5 and 0.11 at 10, and
so always favours wider labels; the cross-entropy is 3.05, 3.14 and 3.83, and always favours narrower ones.
"""

import math
from typing import Any, Union

from mxnet import init

from symbols.heads.ages import LAST_AGE
from symbols.options import is_number

NARROWEST, WIDEST = 0.5, 10.0  # years; below half a year the label is one class, whatever the width
START = 2.5  # years, as of one width for all


def read_width(sigma: Any) -> Union[float, tuple, dict]:
    """Return the width: years, (young, old) in years at the ages 0 and 100, or {"start": years} of a learnt one.

    Raises `ValueError` on anything else.
    """
    if is_number(sigma) and sigma >= 0:
        return float(sigma)
    if sigma == "learnt":
        return {"start": START}
    if isinstance(sigma, dict) and list(sigma) == ["start"]:
        start = sigma["start"]
        if is_number(start) and NARROWEST <= start <= WIDEST:
            return {"start": float(start)}
    pair = isinstance(sigma, (list, tuple)) and len(sigma) == 2
    if pair and all(is_number(years) and years >= NARROWEST for years in sigma):
        return tuple(map(float, sigma))
    raise ValueError(
        f"sigma={sigma}: must be a number of at least 0, [young, old] of at least {NARROWEST}, learnt, "
        f"or {{start: {NARROWEST} to {WIDEST:g}}}"
    )


def width_parameter(params: Any, start: float) -> Any:
    """Return the parameter (1, 101) of the log of the width at each age; weight decay does not apply to it."""
    return params.get("log_sigma", shape=(1, LAST_AGE + 1), init=init.Constant(math.log(start)), wd_mult=0.0)


def log_width(F: Any, log_sigma: Any, years: Any, age: Any) -> Any:
    """Return the log width (N, 1) at ages (N, 1), from `log_sigma` (1, 101) of the `years` (1, 101), not yet clipped.

    An age between two whole years is interpolated linearly.
    """
    shares = F.relu(1 - F.abs(F.broadcast_sub(years, age)))
    return F.sum(F.broadcast_mul(shares, log_sigma), axis=1, keepdims=True)


def width_of(F: Any, log: Any) -> Any:
    """Return the width in years (N, 1) of a `log_width`, clipped to 0.5 to 10."""
    return F.exp(F.clip(log, math.log(NARROWEST), math.log(WIDEST)))


def width_loss(F: Any, log: Any, error: Any) -> Any:
    """Return -log (N, 1) of the likelihood of `error` (N, 1), in years, where the width is the mean error.

    No gradient reaches the error. Beyond the bounds one leads back to them: clipped, a width would stay there for good.
    """
    inside = F.clip(log, math.log(NARROWEST), math.log(WIDEST))
    return inside + F.BlockGrad(error) * F.exp(-inside) + F.abs(log - F.BlockGrad(inside))
