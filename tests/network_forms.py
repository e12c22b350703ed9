"""Every registered network at a size that tests have time for, and the other forms of some."""

import pytest

import symbols

FACE = 32  # pixels, where a network takes any size
TINY_VIT = {"size": 32, "patch": 8, "width": 32, "layers": 2, "heads": 2, "features": 16}
SMALL = {name: {"size": 64} for name in ("aec", "c3ae", "ssrnet", "ssrnet_gender", "ssrnet_multi")}
SMALL["agmixer"] = TINY_VIT
SMALL.update({name: {"size": 64} for name in ("efficientnetv2_b0", "efficientnetv2_s")})  # at 32 their maps are a pixel
OTHERS = {
    "aec with gender": {"name": "aec", "size": 64, "gender": True},
    "c3ae full": {"name": "c3ae", "full": True},
    "c3ae with gender": {"name": "c3ae", "size": 64, "gender": True},
    "mobilenet025 of pairs": {
        "name": "mobilenet025",
        "size": FACE,
        "age_head": "ordinal_pairs",
        "prelu": True,
        "norm_logits": True,
    },
    "gluoncv:mobilenetv2_0.25": {"name": "gluoncv:mobilenetv2_0.25", "size": FACE},
}
LARGE = ("efficientnetv2_s", "mobilenet100", "resnet18", "resnet34", "resnet50")  # slow; each has a smaller sibling
# {what a test calls it: arguments of symbols.create}
FORMS = {name: {"name": name, **SMALL.get(name, {"size": FACE})} for name in symbols.names()}
FORMS.update(OTHERS)
MARKED = [pytest.param(form, marks=[pytest.mark.slow] * (form in LARGE)) for form in FORMS]


def build(form, **arguments):
    """A network of a form, with weights as training begins."""
    import mxnet as mx

    network = symbols.create(**{**FORMS[form], **arguments})
    network.initialize_for_training(mx.cpu())
    network(mx.nd.zeros((1, 3, network.size, network.size)))
    return network
