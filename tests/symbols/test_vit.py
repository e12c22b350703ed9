"""The vision transformer: CLIP's numbers, by NumPy and by another implementation, its size, and its edges."""

import numpy as np
import pytest
from mxnet import autograd, nd

import symbols
from deploy.importers.agmixer import from_torch
from symbols.vit import Attention, VisualTransformer, scale_as_clip
from tests.plain_agmixer import MEAN, SPREAD, TINY, draw_tower, run_tower


def our_tower(weights):
    """The body of an agmixer with these weights, by CLIP's names."""
    imported = from_torch(weights)
    body = symbols.create(**imported.arguments).body
    parameters = body._collect_params_with_prefix()
    assert {f"body.{name}" for name in parameters} == set(imported.weights)
    body.initialize()
    for name, value in imported.weights.items():
        parameters[name[len("body.") :]].set_data(nd.array(value))
    return body


def faces(count, size):
    return np.random.RandomState(4).uniform(0, 255, (count, 3, size, size)).astype(np.float32)


def transformers_tower(weights, pixels, size, patch, width, layers, features):
    """The same by `transformers`, which the extra "peers" installs."""
    torch = pytest.importorskip("torch", reason="the extra 'peers' is not installed: no torch")
    transformers = pytest.importorskip("transformers", reason="the extra 'peers' is not installed: no transformers")
    config = transformers.CLIPVisionConfig(
        hidden_size=width,
        intermediate_size=4 * width,
        projection_dim=features,
        num_hidden_layers=layers,
        num_attention_heads=width // 64,
        image_size=size,
        patch_size=patch,
        hidden_act="quick_gelu",
    )
    model = transformers.CLIPVisionModelWithProjection(config).eval()
    theirs = {}
    for name, value in weights.items():
        value = torch.from_numpy(value)
        name = name.replace("visual.", "vision_model.", 1)
        for old, new in RENAMED:
            name = name.replace(old, new)
        if "in_proj" in name:
            for part, word in zip(value.chunk(3), "qkv"):
                theirs[name.replace("self_attn.in_proj_", f"self_attn.{word}_proj.")] = part
        elif name == "vision_model.proj":
            theirs["visual_projection.weight"] = value.T
        else:
            theirs[name] = value
    missing, unknown = model.load_state_dict(theirs, strict=False)
    assert not unknown and all("position_ids" in name for name in missing)
    normed = torch.from_numpy((pixels / 255 - MEAN) / SPREAD).float()
    with torch.no_grad():
        return model(pixel_values=normed).image_embeds.numpy()


RENAMED = (
    ("vision_model.class_embedding", "vision_model.embeddings.class_embedding"),
    ("positional_embedding", "embeddings.position_embedding.weight"),
    ("conv1.weight", "embeddings.patch_embedding.weight"),
    ("ln_pre", "pre_layrnorm"),
    ("ln_post", "post_layernorm"),
    ("transformer.resblocks", "encoder.layers"),
    ("attn", "self_attn"),
    ("ln_1", "layer_norm1"),
    ("ln_2", "layer_norm2"),
    ("mlp.c_fc", "mlp.fc1"),
    ("mlp.c_proj", "mlp.fc2"),
)


def test_the_tower_has_the_parameters_of_clips():
    body = VisualTransformer()
    assert sum(int(np.prod(value.shape)) for value in body.collect_params().values()) == 86_192_640


def test_pixels_are_scaled_as_clip_scales_them():
    pixels = faces(2, 16)
    scaled = scale_as_clip(nd, nd.array(pixels)).asnumpy()
    np.testing.assert_allclose(scaled, (pixels / 255 - MEAN) / SPREAD, atol=2e-6)


def test_a_small_tower_gives_the_numbers_of_plain_numpy():
    weights, pixels = draw_tower(np.random.RandomState(1), **TINY), faces(3, 32)
    expected = run_tower(weights, pixels)
    body = our_tower(weights)
    scaled = scale_as_clip(nd, nd.array(pixels))
    assert expected.std(axis=0).min() > 0.01  # faces differ, so that equality says something
    np.testing.assert_allclose(body(scaled).asnumpy(), expected, atol=1e-4)
    body.hybridize()
    np.testing.assert_allclose(body(scaled).asnumpy(), expected, atol=1e-4)


def test_a_small_tower_gives_the_numbers_of_transformers():
    weights, pixels = draw_tower(np.random.RandomState(2), **TINY), faces(3, 32)
    expected = transformers_tower(weights, pixels, **TINY)
    ours = our_tower(weights)(scale_as_clip(nd, nd.array(pixels))).asnumpy()
    np.testing.assert_allclose(ours, expected, atol=1e-4)


@pytest.mark.slow
def test_vit_b16_gives_the_numbers_of_transformers():
    weights, pixels = draw_tower(np.random.RandomState(3)), faces(2, 224)
    expected = transformers_tower(weights, pixels, 224, 16, 768, 12, 512)
    ours = our_tower(weights)(scale_as_clip(nd, nd.array(pixels))).asnumpy()
    np.testing.assert_allclose(ours, expected, atol=1e-4)


def test_attention_stays_finite_where_scores_are_extreme():
    attention = Attention(16, 2)
    attention.initialize()
    x = nd.random.uniform(-1e4, 1e4, (2, 5, 16))
    x.attach_grad()
    with autograd.record():
        y = attention(x * 100)
    y.backward()
    assert np.isfinite(y.asnumpy()).all() and np.isfinite(x.grad.asnumpy()).all()


@pytest.mark.parametrize(
    "options, reason",
    [
        ({"patch": 10}, "patch=10: must divide the size of 224 pixels"),
        ({"heads": 7}, "heads=7: must divide the width of 768"),
        ({"layers": 0}, "layers=0: must be a whole number of at least 1"),
        ({"patch": True}, "patch=True: must be a whole number"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(options, reason):
    with pytest.raises(ValueError, match=reason):
        VisualTransformer(**options)
