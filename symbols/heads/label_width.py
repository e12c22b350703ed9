"""How wide the label distribution of an exact age is: one width, one that grows with age, or one learnt for every age.

Gao et al. 2017 ("Deep label distribution learning with label ambiguity") have one for all. Wen et al. 2020 ("Adaptive
variance based label distribution learning for facial age estimation", ECCV) adapt it to each face, by a second network
that a held-out set teaches. Here it belongs to the age, and a number each is learnt beside the network: the width is
what the network still errs at that age, in years, by the likelihood of its errors (a Laplace distribution's, whose
maximum is at their mean).

The divergence between label and prediction cannot choose it, for a network that cannot tell an age for sure. Of labels
40 +- 5 years and the best prediction, the KL divergence is 1.63 at a width of 1 year, 0.81 at 2.5 and 0.11 at 10, and
so always asks for wider labels; the cross-entropy is 3.05, 3.14 and 3.83, and always asks for narrower ones.
"""

import math

from mxnet import init

from symbols.heads.ages import LAST_AGE
from symbols.options import is_number

NARROWEST, WIDEST = 0.5, 10.0  # years; below half a year the label is one class, whatever the width
START = 2.5  # years, as of one width for all


def read_width(sigma):
    """Years as a float; (young, old), years at the ages 0 and 100; or {"start": years} of learnt ones. Raises
    `ValueError` on anything else."""
    if isinstance(sigma, str) and sigma == "learnt":
        return {"start": START}
    if isinstance(sigma, dict) and list(sigma) == ["start"]:
        start = sigma["start"]
        if is_number(start) and NARROWEST <= start <= WIDEST:
            return {"start": float(start)}
    pair = isinstance(sigma, (list, tuple)) and len(sigma) == 2
    if pair and all(is_number(years) and years >= NARROWEST for years in sigma):
        return tuple(map(float, sigma))
    if is_number(sigma) and sigma >= 0:
        return float(sigma)
    raise ValueError(
        f"sigma={sigma}: a number of at least 0 is wanted, [young, old] of at least {NARROWEST}, learnt, "
        f"or {{start: {NARROWEST} to {WIDEST:g}}}"
    )


def width_parameter(params, start):
    """(1, 101) the log of the learnt width at each age, which weight decay leaves alone."""
    return params.get("log_sigma", shape=(1, LAST_AGE + 1), init=init.Constant(math.log(start)), wd_mult=0.0)


def log_width(F, log_sigma, years, age):
    """(N, 1) at ages (N, 1), from `log_sigma` (1, 101) of the `years` (1, 101); beyond its bounds, where `width_of`
    clips it. An age between two whole years has something of both."""
    shares = F.relu(1 - F.abs(F.broadcast_sub(years, age)))
    return F.sum(F.broadcast_mul(shares, log_sigma), axis=1, keepdims=True)


def width_of(F, log):
    """Years (N, 1) of a `log_width`, 0.5 to 10."""
    return F.exp(F.clip(log, math.log(NARROWEST), math.log(WIDEST)))


def width_loss(F, log, error):
    """(N, 1): -log of the likelihood of `error` (N, 1), in years, where width is what the error is on average.

    No gradient reaches the error. Beyond the bounds one leads back to them: clipped, a width would stay there for good.
    """
    inside = F.clip(log, math.log(NARROWEST), math.log(WIDEST))
    return inside + F.BlockGrad(error) * F.exp(-inside) + F.abs(log - F.BlockGrad(inside))
