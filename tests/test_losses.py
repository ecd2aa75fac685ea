"""The training loss beside PyTorch and float64 closed forms, and at its edges."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax

from fishjax.nn.losses import class_weights, cross_entropy, training_loss
from fishjax.sections import Loss
from fishjax.setup import LossShape, choices

KINDS = choices(Loss, "class_weight")
PLAIN = LossShape(
    focal_gamma=0.0,
    class_weight=0.0,
    class_weight_power=1.0,
    class_weight_shift=0.0,
    class_weight_swap=0.0,
    effective_beta=0.999,
    logit_adjustment=0.0,
    smoothing=0.0,
)
COUNTS = np.float32([90, 30, 9, 3, 1])
ABSENT = np.float32([90, 0, 9, 3, 1])
BATCH, CLASSES = 16, len(COUNTS)


def shaped(weight="none", **changes):
    plain = PLAIN._replace(class_weight=float(KINDS.index(weight)), **changes)
    return jax.tree.map(jnp.float32, plain)


def logits_and_labels(spread=3.0):
    rng = np.random.default_rng(0)
    logits = spread * rng.normal(size=(BATCH, CLASSES))
    return jnp.asarray(logits, jnp.float32), jnp.asarray(np.arange(BATCH) % CLASSES, jnp.int32)


@jax.jit
def value_and_gradient(logits, targets, shape, counts):
    return jax.value_and_grad(training_loss)(logits, targets, shape, counts)


weights_of = jax.jit(class_weights)


def of_float64(logits, labels, shape, counts):
    """The same loss of one label an image, written out in float64."""
    weights = weights_of_float64(shape, counts)
    prior = np.log(np.maximum(counts, 1) / np.maximum(counts, 1).sum())
    log_p = log_softmax(np.float64(logits) + float(shape.logit_adjustment) * prior, axis=1)
    terms = -weights * (1 - np.exp(log_p)) ** float(shape.focal_gamma) * log_p
    smoothing = float(shape.smoothing)
    of_label = terms[np.arange(len(labels)), labels]
    return ((1 - smoothing) * of_label + smoothing * terms.mean(1)).mean()


def weights_of_float64(shape, counts):
    n, beta = np.float64(counts), float(shape.effective_beta)
    raw = {
        "none": lambda n: np.ones_like(n),
        "inverse": lambda n: 1 / n,
        "sqrt": lambda n: 1 / np.sqrt(n),
        "effective": lambda n: (1 - beta) / (1 - beta**n),
    }[KINDS[int(shape.class_weight)]]
    weights = np.ones_like(n)
    weights[n > 0] = raw(n[n > 0]) ** float(shape.class_weight_power)
    weights[n > 0] /= weights[n > 0].mean()
    return weights


def test_by_default_it_is_plain_cross_entropy_bit_for_bit():
    logits, labels = logits_and_labels()
    ours = value_and_gradient(logits, jax.nn.one_hot(labels, CLASSES), shaped(), COUNTS)
    plain = jax.jit(jax.value_and_grad(cross_entropy))(logits, labels, jnp.float32(0))
    jax.tree.map(np.testing.assert_array_equal, ours, plain)


@pytest.mark.parametrize("weight", KINDS)
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_weights_and_smoothing_equal_pytorch(weight, smoothing):
    torch = pytest.importorskip("torch")
    logits, labels = logits_and_labels()
    shape = shaped(weight, smoothing=smoothing)
    targets = 0.7 * jax.nn.one_hot(labels, CLASSES) + 0.3 * jax.nn.one_hot(labels[::-1], CLASSES)
    loss, gradient = value_and_gradient(logits, targets, shape, COUNTS)
    x = torch.tensor(np.array(logits, np.float64), requires_grad=True)
    theirs = torch.nn.CrossEntropyLoss(
        torch.tensor(weights_of_float64(shape, COUNTS)), label_smoothing=smoothing
    )(x, torch.tensor(np.array(targets, np.float64)))
    theirs.backward()
    np.testing.assert_allclose(loss, theirs.item(), rtol=1e-6)
    np.testing.assert_allclose(gradient, x.grad, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0, 5.0])
def test_the_focal_loss_and_its_gradient_equal_pytorchs_autograd(gamma):
    torch = pytest.importorskip("torch")
    logits, labels = logits_and_labels()
    shape = shaped("inverse", focal_gamma=gamma)
    loss, gradient = value_and_gradient(logits, jax.nn.one_hot(labels, CLASSES), shape, COUNTS)
    x = torch.tensor(np.array(logits, np.float64), requires_grad=True)
    log_p = torch.log_softmax(x, 1)[np.arange(BATCH), labels.tolist()]
    weights = torch.tensor(weights_of_float64(shape, COUNTS)[np.array(labels)])
    theirs = (-weights * (1 - log_p.exp()) ** gamma * log_p).mean()
    theirs.backward()
    np.testing.assert_allclose(loss, theirs.item(), rtol=2e-6)
    np.testing.assert_allclose(gradient, x.grad, rtol=2e-5, atol=2e-8)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0, 16.0])
@pytest.mark.parametrize("far", [20.0, 200.0, 1e30])
def test_certain_and_hopeless_images_have_a_finite_loss_and_gradient(gamma, far):
    logits = jnp.asarray([[far, 0.0, -far], [-far, 0.0, far]], jnp.float32)
    targets = jax.nn.one_hot(jnp.zeros(2, jnp.int32), 3)
    counts = jnp.float32([5, 3, 2])
    for smoothing in (0.0, 0.1):
        shape = shaped(focal_gamma=gamma, smoothing=smoothing)
        loss, gradient = value_and_gradient(logits, targets, shape, counts)
        assert np.isfinite(loss)
        assert np.isfinite(gradient).all()
    certain = value_and_gradient(logits[:1], targets[:1], shaped(focal_gamma=gamma), counts)
    assert certain[0] == pytest.approx(0.0, abs=1e-8)
    hopeless = value_and_gradient(logits[1:], targets[1:], shaped(focal_gamma=gamma), counts)
    assert hopeless[0] == pytest.approx(2.0 * far)


@pytest.mark.parametrize("counts", [COUNTS, ABSENT], ids=["all present", "one absent"])
@pytest.mark.parametrize("power", [0.0, 0.5, 1.0, 3.0])
@pytest.mark.parametrize("weight", KINDS)
def test_class_weights_equal_their_closed_forms_and_have_mean_1(weight, power, counts):
    shape = shaped(weight, class_weight_power=power)
    weights = np.asarray(weights_of(shape, jnp.asarray(counts)))
    np.testing.assert_allclose(weights, weights_of_float64(shape, counts), rtol=2e-6)
    np.testing.assert_allclose(weights.sum(), CLASSES, rtol=1e-6)
    if weight == "none" or power == 0:
        assert (weights == 1).all()


@pytest.mark.parametrize("counts", [COUNTS, ABSENT], ids=["all present", "one absent"])
@pytest.mark.parametrize("places", [1, 3, 4, 12])
def test_the_rarest_class_takes_or_exchanges_the_weight_of_the_one_so_many_places_on(
    places, counts
):
    plain = weights_of_float64(shaped("inverse"), counts)
    rarest = int(np.argmin(np.where(counts > 0, counts, np.inf)))
    other = (rarest + places) % CLASSES
    taken = plain.copy()
    taken[rarest] = plain[other]
    swapped = taken.copy()
    swapped[other] = plain[rarest]
    for swap, expected in ((0.0, taken), (1.0, swapped)):
        shape = shaped("inverse", class_weight_shift=places, class_weight_swap=swap)
        np.testing.assert_allclose(weights_of(shape, jnp.asarray(counts)), expected, rtol=2e-6)


@pytest.mark.parametrize("beta", [0.0, 0.9, 0.9999])
def test_effective_weights_go_from_equal_to_inverse_with_beta(beta):
    shape = shaped("effective", effective_beta=beta)
    weights = weights_of(shape, jnp.asarray(COUNTS))
    np.testing.assert_allclose(weights, weights_of_float64(shape, COUNTS), rtol=2e-6)


@pytest.mark.parametrize("weight", KINDS)
def test_extreme_counts_and_powers_stay_finite(weight):
    shape = shaped(weight, class_weight_power=8.0, effective_beta=0.99999)
    weights = np.asarray(weights_of(shape, jnp.float32([200_000, 0, 1, 17])))
    assert np.isfinite(weights).all()
    np.testing.assert_allclose(weights.sum(), 4, rtol=1e-6)


@pytest.mark.parametrize("counts", [COUNTS, ABSENT], ids=["all present", "one absent"])
@pytest.mark.parametrize("tau", [0.5, 1.0, 8.0])
def test_logit_adjustment_equals_float64(tau, counts):
    logits, labels = logits_and_labels()
    shape = shaped("sqrt", logit_adjustment=tau, smoothing=0.1)
    loss, gradient = value_and_gradient(logits, jax.nn.one_hot(labels, CLASSES), shape, counts)
    np.testing.assert_allclose(loss, of_float64(logits, labels, shape, counts), rtol=2e-6)
    assert np.isfinite(gradient).all()


def test_logit_adjustment_makes_the_prior_the_answer_of_equal_logits():
    logits, shape = jnp.zeros((CLASSES, CLASSES)), shaped(logit_adjustment=1.0)
    _, gradient = value_and_gradient(logits, jnp.zeros_like(logits), shape, COUNTS)
    assert (np.asarray(gradient) == 0).all()
    targets = jnp.tile(jnp.asarray(COUNTS / COUNTS.sum())[None], (CLASSES, 1))
    _, gradient = value_and_gradient(logits, targets, shape, COUNTS)
    np.testing.assert_allclose(gradient, 0.0, atol=3e-8)


def test_the_loss_of_two_labels_mixed_is_the_mixture_of_their_losses():
    logits, labels = logits_and_labels()
    shape = shaped("effective", focal_gamma=2.0, smoothing=0.1)
    share, other = 0.3, labels[::-1]
    targets = share * jax.nn.one_hot(labels, CLASSES) + (1 - share) * jax.nn.one_hot(other, CLASSES)
    mixed, _ = value_and_gradient(logits, targets, shape, COUNTS)
    first, second = (of_float64(logits, some, shape, COUNTS) for some in (labels, other))
    np.testing.assert_allclose(mixed, share * first + (1 - share) * second, rtol=2e-6)


def test_runs_of_every_kind_go_through_one_mapped_program():
    logits, labels = logits_and_labels()
    shapes = [
        shaped(),
        shaped("inverse", smoothing=0.1),
        shaped("effective", focal_gamma=2.0),
        shaped("sqrt", logit_adjustment=1.0),
    ]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *shapes)
    targets = jax.nn.one_hot(labels, CLASSES)
    mapped = jax.jit(jax.vmap(training_loss, in_axes=(None, None, 0, None)))
    losses = mapped(logits, targets, stacked, jnp.asarray(COUNTS))
    alone = [of_float64(logits, labels, shape, COUNTS) for shape in shapes]
    np.testing.assert_allclose(losses, alone, rtol=2e-6)
