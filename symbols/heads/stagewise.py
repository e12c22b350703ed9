"""Soft stagewise regression: a number as digits of decreasing weight, whose bins shift and scale with the face.

Yang et al., IJCAI 2018, "SSR-Net: A Compact Soft Stagewise Regression Network for Age Estimation", equation 6.
"""

from typing import Any, Iterable, Optional

from mxnet import init
from mxnet.gluon import HybridBlock, nn

# 1 + lambda_d * delta reaches 0 where tanh saturates: without a floor every one of six short runs of SGD ended in NaN,
# with it none. On 1,500 UTKFace faces the existing checkpoints stay above 0.44, so it changes none of their outputs.
NARROWEST = 0.1
# Before training the last layers output about `start` for every face: with Glorot's weights in them the ages
# began at 50 to 800 years, and some p were dead. Biases in front of the other ReLUs keep those alive.
ALIVE, LITTLE = 0.5, init.Normal(0.01)


class StageHead(HybridBlock):
    """Two flat maps of one stage (N, K) -> (numerator (N, 1), divisor (N, 1)).

    numerator = sum over bins i of (i + lambda_local * eta_i) * p_i; divisor = bins * (1 + lambda_d * delta). `start`:
    p of every bin before training. Both lambdas are 1 in the existing checkpoints.
    """

    def __init__(
        self,
        bins: int = 3,
        dropout: float = 0.2,
        lambda_local: float = 1.0,
        lambda_d: float = 1.0,
        start: float = 0.2,
        prefix: Optional[str] = None,
    ) -> None:
        super().__init__(prefix=prefix)
        self.lambda_local, self.lambda_d, self.count = float(lambda_local), float(lambda_d), bins
        with self.name_scope():
            self.dropout = nn.Dropout(dropout)
            self.delta = nn.Dense(1, weight_initializer=LITTLE, prefix="delta_")
            self.gate_s = nn.Dense(bins, bias_initializer=init.Constant(ALIVE), prefix="gate_s_")
            self.gate_x = nn.Dense(bins, bias_initializer=init.Constant(ALIVE), prefix="gate_x_")
            self.mix = nn.Dense(2 * bins, bias_initializer=init.Constant(ALIVE), prefix="mix_")
            self.p = nn.Dense(bins, weight_initializer=LITTLE, bias_initializer=init.Constant(start), prefix="p_")
            self.eta = nn.Dense(bins, weight_initializer=LITTLE, prefix="eta_")
        # A constant: ncnn cannot convert an arange in the graph.
        self.bins = self.params.get_constant("bins", [[float(index) for index in range(bins)]])

    def hybrid_forward(self, F: Any, s: Any, x: Any, bins: Any) -> Any:
        delta = F.Activation(self.delta(s * x), act_type="tanh")
        gates = (gate(self.dropout(flat)) for gate, flat in ((self.gate_s, s), (self.gate_x, x)))
        one, two = (F.Activation(gate, act_type="relu") for gate in gates)
        mixed = F.Activation(self.mix(one * two), act_type="relu")
        p = F.Activation(self.p(mixed), act_type="relu")
        eta = F.Activation(self.eta(mixed), act_type="tanh")
        numerator = F.sum(F.broadcast_add(self.lambda_local * eta, bins) * p, axis=1, keepdims=True)
        width = F.clip(1 + self.lambda_d * delta, NARROWEST, 1 + abs(self.lambda_d))
        return numerator, self.count * width


class StagewiseHead(HybridBlock):
    """Flat maps s1, x1, s2, x2, s3, x3, each (N, K) of its stage -> a score (N, 1), about 0 to 1.

    `start`: the score before training, which keeps every p positive there.
    """

    def __init__(
        self, start: float, bins: int = 3, stages: int = 3, prefix: Optional[str] = None, **options: Any
    ) -> None:
        super().__init__(prefix=prefix)
        each = start / sum(sum(range(bins)) / bins ** (stage + 1) for stage in range(stages))
        with self.name_scope():
            self.stages = nn.HybridSequential(prefix="")
            for stage in range(1, stages + 1):
                self.stages.add(StageHead(bins, start=each, prefix=f"stage{stage}_", **options))

    def hybrid_forward(self, F: Any, *maps: Any) -> Any:
        return soft_stagewise([stage(*pair) for stage, pair in zip(self.stages, zip(maps[::2], maps[1::2]))])


def soft_stagewise(stages: Iterable[tuple]) -> Any:
    """Return the sum over k of numerator_k / (divisor_1 * .. * divisor_k), from (numerator, divisor) of each stage, (N,
    1) all."""
    total, divisors = None, None
    for numerator, divisor in stages:
        divisors = divisor if divisors is None else divisors * divisor
        share = numerator / divisors
        total = share if total is None else total + share
    return total
