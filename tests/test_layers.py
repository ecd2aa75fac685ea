"""Activations, norms, pooling and strided convolution against `torch.nn`, gradients too."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fishjax.nn.activations import ACTIVATIONS
from fishjax.nn.layers import Conv, max_pool
from fishjax.nn.norms import norm
from fishjax.sections import Model

torch = pytest.importorskip("torch")
TORCH_ACTIVATIONS = {
    "relu": torch.nn.ReLU(),
    "leaky_relu": torch.nn.LeakyReLU(0.2),
    "elu": torch.nn.ELU(),
    "gelu": torch.nn.GELU(),
    "silu": torch.nn.SiLU(),
    "tanh": torch.nn.Tanh(),
    "sigmoid": torch.nn.Sigmoid(),
}


def channels_first(x):
    return torch.tensor(np.moveaxis(np.asarray(x), -1, 1), dtype=torch.float64)


def channels_last(x):
    return np.moveaxis(x.detach().numpy(), 1, -1)


def close(ours, theirs, atol=1e-5):
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=atol)


@functools.partial(jax.jit, static_argnums=0)
def passed(function, g, *at):
    """Its value and its gradients."""
    y, pull = jax.vjp(function, *at)
    return y, pull(g)


def test_every_choice_of_activation_is_compared():
    (field,) = (f for f in Model.__dataclass_fields__.values() if f.name == "activation")
    assert set(field.metadata["choices"]) == set(TORCH_ACTIVATIONS) == set(ACTIVATIONS)


@pytest.mark.parametrize("name", TORCH_ACTIVATIONS)
def test_activations_and_their_gradients_equal_pytorch(name):
    x = np.r_[np.linspace(-6, 6, 101), 0.0, 60.0, -60.0, 3e4, -3e4].astype(np.float32)
    slope = jnp.float32(0.2 if name == "leaky_relu" else 0.0)
    y, (gradient,) = passed(lambda x: ACTIVATIONS[name](x, slope), np.ones_like(x), x)
    theirs = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    expected = TORCH_ACTIVATIONS[name](theirs)
    expected.sum().backward()
    close(y, expected.detach(), 1e-6)
    close(gradient, theirs.grad, 1e-6)


NORMS = {
    "batch": lambda: torch.nn.BatchNorm2d(6, momentum=0.3),
    "layer": lambda: torch.nn.LayerNorm([6, 3, 5], bias=False),
    "group": lambda: torch.nn.GroupNorm(2, 6),
    "instance": lambda: torch.nn.InstanceNorm2d(6, affine=True),
}


@pytest.mark.parametrize("kind", NORMS)
def test_norms_of_images_and_their_gradients_equal_pytorch(kind):
    rng = np.random.default_rng(0)
    x, g = (rng.normal(1.0, 2.0, (4, 3, 5, 6)).astype(np.float32) for _ in range(2))
    weights = {"scale": rng.normal(1, 0.5, 6), "bias": rng.normal(0, 0.5, 6)}
    if kind == "layer":
        weights = {"scale": np.ones(6), "bias": np.zeros(6)}
    weights = {name: value.astype(np.float32) for name, value in weights.items()}
    ours = norm(Model(norm=kind, groups=2), 6, "n")
    start = jax.jit(lambda x: ours.init(jax.random.key(0), x, 0.7, train=False))(x)

    def apply(x, weights):
        tree = {**start, "params": weights}
        return ours.apply(tree, x, jnp.float32(0.7), train=True, mutable=["batch_stats"])[0]

    y, (by_image, by_weights) = passed(apply, g, x, weights)
    theirs = NORMS[kind]().double()
    image = channels_first(x).requires_grad_()
    if kind != "layer":
        theirs.weight.data = torch.tensor(weights["scale"], dtype=torch.float64)
        theirs.bias.data = torch.tensor(weights["bias"], dtype=torch.float64)
    expected = theirs(image)
    expected.backward(channels_first(g))
    close(y, channels_last(expected))
    close(by_image, channels_last(image.grad))
    if kind != "layer":
        close(by_weights["scale"], theirs.weight.grad, 1e-4)
        close(by_weights["bias"], theirs.bias.grad, 1e-4)


def test_layer_norm_of_vectors_equals_pytorch():
    x = np.random.default_rng(0).normal(1.0, 2.0, (4, 6)).astype(np.float32)
    ours = norm(Model(norm="layer"), 6, "n")
    y = ours.apply(ours.init(jax.random.key(0), x, 0.7, train=False), x, 0.7, train=True)
    close(y, torch.nn.LayerNorm(6)(torch.tensor(x)).detach())


@pytest.mark.parametrize("keep", [0.0, 0.7, 1.0])
def test_running_statistics_equal_pytorch_but_for_its_unbiased_variance(keep):
    rng = np.random.default_rng(1)
    batches = rng.normal(2.0, 3.0, (3, 4, 3, 5, 6)).astype(np.float32)
    ours, theirs = norm(Model(norm="batch"), 6, "n"), torch.nn.BatchNorm2d(6, momentum=1 - keep)
    tree = jax.jit(lambda x: ours.init(jax.random.key(0), x, keep, train=False))(batches[0])

    @jax.jit
    def stepped(tree, x):
        return ours.apply(tree, x, jnp.float32(keep), train=True, mutable=["batch_stats"])[1]

    for x in batches:
        new = stepped(tree, x)
        tree = {**tree, **new}
        theirs(channels_first(x).float())
    close(tree["batch_stats"]["mean"], theirs.running_mean)
    count, start = batches[0].size // 6, keep ** len(batches)
    biased = start + (theirs.running_var - start) * (count - 1) / count
    close(tree["batch_stats"]["var"], biased)
    theirs.eval()
    theirs.running_var = biased
    y = ours.apply(tree, batches[0], jnp.float32(keep), train=False)
    close(y, channels_last(theirs(channels_first(batches[0]).float())), 1e-5)


def test_a_constant_channel_has_finite_gradients():
    x = jnp.full((4, 2, 2, 6), 3.0)
    for kind in NORMS:
        ours = norm(Model(norm=kind, groups=2), 6, "n")
        tree = jax.jit(lambda x, ours=ours: ours.init(jax.random.key(0), x, 0.9, train=False))(x)

        def loss(x, ours=ours, tree=tree):
            return jnp.sum(ours.apply(tree, x, 0.9, train=True, mutable=["batch_stats"])[0] ** 2)

        assert np.isfinite(jax.jit(jax.grad(loss))(x)).all()


@pytest.mark.parametrize("size", [8, 7])
def test_pooling_and_strides_equal_pytorch(size):
    x = np.random.default_rng(0).normal(size=(2, size, size, 3)).astype(np.float32)
    image = channels_first(x)
    close(max_pool(jnp.asarray(x)), channels_last(torch.nn.functional.max_pool2d(image, 2)))
    for side in (1, 3):
        conv = Conv(4, use_bias=True, size=side, stride=2)
        tree = jax.jit(conv.init)(jax.random.key(0), x)
        kernel = torch.tensor(np.asarray(tree["params"]["kernel"]), dtype=torch.float64)
        around = max(2 * (-(-size // 2) - 1) + side - size, 0)
        padded = torch.nn.functional.pad(image, 2 * (around // 2, around - around // 2))
        expected = torch.nn.functional.conv2d(padded, kernel.permute(3, 2, 0, 1), stride=2)
        close(jax.jit(conv.apply)(tree, x), channels_last(expected))
