"""AGMixer and CLIP's visual tower in plain NumPy, by the names of their own files: what ours are measured against."""

import math

import numpy as np

TINY = {"size": 32, "patch": 8, "width": 128, "layers": 2, "features": 48}  # two heads of 64, as CLIP has them
MEAN = np.array([0.48145466, 0.4578275, 0.40821073])[:, None, None]
SPREAD = np.array([0.26862954, 0.26130258, 0.27577711])[:, None, None]


def draw(random, shapes) -> dict:
    """Weights of these shapes that neither explode nor die: norms about 1, biases small, layers by their fan-in."""
    drawn = {}
    for name, shape in shapes.items():
        if len(shape) == 1:
            is_norm = "ln_" in name or "lnorm" in name or "layer_norm" in name or "mix.0" in name
            drawn[name] = random.normal(1.0 if is_norm and name.endswith("weight") else 0, 0.2, shape)
        else:
            fan_in = shape[0] if name.endswith(("positional_embedding", "proj")) else np.prod(shape[1:])
            drawn[name] = random.normal(0, 1.3 / math.sqrt(fan_in), shape)
    return {name: value.astype(np.float32) for name, value in drawn.items()}


def draw_tower(random, prefix="visual.", size=224, patch=16, width=768, layers=12, features=512) -> dict:
    """CLIP's tower, ViT-B/16 unless said otherwise."""
    shapes = {
        "class_embedding": (width,),
        "positional_embedding": ((size // patch) ** 2 + 1, width),
        "proj": (width, features),
        "conv1.weight": (width, 3, patch, patch),
    }
    shapes.update(norm("ln_pre", width), **norm("ln_post", width))
    for layer in range(layers):
        block = f"transformer.resblocks.{layer}"
        shapes.update({f"{block}.attn.in_proj_weight": (3 * width, width), f"{block}.attn.in_proj_bias": (3 * width,)})
        shapes.update(dense(f"{block}.attn.out_proj", width, width), **norm(f"{block}.ln_1", width))
        shapes.update(dense(f"{block}.mlp.c_fc", width, 4 * width), **norm(f"{block}.ln_2", width))
        shapes.update(dense(f"{block}.mlp.c_proj", 4 * width, width))
    return draw(random, {prefix + name: shape for name, shape in shapes.items()})


def draw_heads(random, features=48, classes=58, width=128, depth=3) -> dict:
    """What a checkpoint of AGMixer has behind the tower."""
    shapes = {**dense("proj", features, width), **dense("age_classifier2", width, classes)}
    for name, answers in (("age_classifier1", 1), ("gender_classifier", 2)):
        shapes.update(norm(f"{name}.lnorm", features), **perceptron(f"{name}.mlp", features, 2 * width, width))
        shapes.update(dense(f"{name}.proj", features, width), **dense(f"{name}.fc", width, answers))
    for index in range(depth):
        block = f"AGmixer.1.mixer_blocks.{index}"
        shapes.update(norm(f"{block}.feature_mix.0", width), **perceptron(f"{block}.feature_mix.2", 2, 8, 2))
        shapes.update(norm(f"{block}.channel_mix.0", width))
        shapes.update(perceptron(f"{block}.channel_mix.1", width, 4 * width, width))
    return draw(random, {**shapes, **norm("AGmixer.1.layer_norm", width)})


def norm(name, width):
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def dense(name, inputs, outputs):
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def perceptron(name, inputs, hidden, outputs):
    return {**dense(f"{name}.net.0", inputs, hidden), **dense(f"{name}.net.3", hidden, outputs)}


class Plain:
    """Runs weights by their names, in float64."""

    def __init__(self, weights, prefix=""):
        self.weights = {name: value.astype(np.float64) for name, value in weights.items()}
        self.prefix = prefix

    def __getitem__(self, name):
        return self.weights[self.prefix + name]

    def dense(self, name, x):
        return x @ self[f"{name}.weight"].T + self[f"{name}.bias"]

    def norm(self, name, x):
        centred = x - x.mean(axis=-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-5)
        return scaled * self[f"{name}.weight"] + self[f"{name}.bias"]

    def perceptron(self, name, x):
        hidden = self.dense(f"{name}.net.0", x)
        return self.dense(f"{name}.net.3", hidden * (1 + np.vectorize(math.erf)(hidden / math.sqrt(2))) / 2)


def run_tower(weights, pixels, prefix="visual.") -> np.ndarray:
    """(N, 3, S, S) 0..255 RGB -> (N, features), a loop over faces, heads and patches."""
    net = Plain(weights, prefix)
    width, _, patch, _ = net["conv1.weight"].shape
    layers = len([name for name in weights if name.startswith(prefix) and name.endswith("in_proj_bias")])
    features = []
    for face in (np.asarray(pixels, np.float64) / 255 - MEAN) / SPREAD:
        side = face.shape[1] // patch
        tokens = [net["class_embedding"]]
        for row in range(side):
            for column in range(side):
                cut = face[:, row * patch : (row + 1) * patch, column * patch : (column + 1) * patch]
                tokens.append(net["conv1.weight"].reshape(width, -1) @ cut.reshape(-1))
        x = net.norm("ln_pre", np.stack(tokens) + net["positional_embedding"])
        for layer in range(layers):
            block = f"transformer.resblocks.{layer}"
            normed = net.norm(f"{block}.ln_1", x)
            qkv = normed @ net[f"{block}.attn.in_proj_weight"].T + net[f"{block}.attn.in_proj_bias"]
            heads = []
            for start in range(0, width, 64):
                query, key, value = (qkv[:, part * width + start :][:, :64] for part in range(3))
                scores = np.exp(query @ key.T / 8)
                heads.append(scores / scores.sum(axis=1, keepdims=True) @ value)
            x = x + net.dense(f"{block}.attn.out_proj", np.concatenate(heads, axis=1))
            wide = net.dense(f"{block}.mlp.c_fc", net.norm(f"{block}.ln_2", x))
            x = x + net.dense(f"{block}.mlp.c_proj", wide / (1 + np.exp(-1.702 * wide)))
        features.append(net.norm("ln_post", x[0]) @ net["proj"])
    return np.stack(features)


def run_agmixer(weights, pixels, youngest) -> tuple:
    """(ages in years (N,), P(male) (N,)): the authors count 0 as male."""
    net = Plain(weights)
    features = run_tower(weights, pixels, "FeatureExtractor.")
    features = features / np.linalg.norm(features, axis=1, keepdims=True)
    seen = {}
    for name in ("age_classifier1", "gender_classifier"):
        normed = net.norm(f"{name}.lnorm", features)
        seen[name] = net.perceptron(f"{name}.mlp", normed) + net.dense(f"{name}.proj", features)
    x = np.stack(list(seen.values()), axis=1)
    for index in range(len([name for name in weights if name.endswith("feature_mix.0.weight")])):
        block = f"AGmixer.1.mixer_blocks.{index}"
        turned = net.norm(f"{block}.feature_mix.0", x).transpose(0, 2, 1)
        x = x + net.perceptron(f"{block}.feature_mix.2", turned).transpose(0, 2, 1)
        x = x + net.perceptron(f"{block}.channel_mix.1", net.norm(f"{block}.channel_mix.0", x))
    joined = net.dense("proj", features) + net.norm("AGmixer.1.layer_norm", x).max(axis=1)
    chances = softmax(net.dense("age_classifier2", joined))
    gender = softmax(net.dense("gender_classifier.fc", seen["gender_classifier"]))
    return chances @ np.arange(youngest, youngest + chances.shape[1]), gender[:, 0]


def softmax(logits):
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    return raised / raised.sum(axis=1, keepdims=True)
