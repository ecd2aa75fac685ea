"""The native CPU kernels against the composed ones, and the library they live in."""

import dataclasses
import functools
import itertools
import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fishjax.engine import kernels, native
from fishjax.engine.program import XLA
from fishjax.nn.conv import conv2d
from fishjax.nn.lowering import Block, Geometry, Kernels, Lowering, lowered_by
from fishjax.nn.lowerings.native_block import composed, native_block
from fishjax.nn.lowerings.native_convolution import TARGETS, computes, native_convolution
from tests.needs import need
from tests.packs import assert_close, assert_equal, of_run, run_pack, tiny


def block(threads: int = 1) -> Block:
    return native_block(native.load().loaded["block"], threads)


def convolutions(threads: int, library: str = "onednn") -> Lowering:
    return native_convolution(library, native.load().loaded[library], threads)


def draw(seed: int, *shapes: tuple[int, ...]) -> list[jax.Array]:
    keys = jax.random.split(jax.random.key(seed), len(shapes))
    return [jax.random.normal(key, shape) for key, shape in zip(keys, shapes, strict=True)]


def close(ours, theirs, tolerance: float) -> None:
    for one, other in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        scale = float(jnp.max(jnp.abs(other)))
        np.testing.assert_allclose(one, other, rtol=0, atol=tolerance * max(scale, 1e-30))


def value_and_pulls(function, g, *at):
    value, pull = jax.vjp(function, *at)
    return value, pull(g)


def of_cases(function, cases):
    """Value and gradients of each case (g, *at), all in one program."""
    return jax.jit(lambda cases: [value_and_pulls(function, g, *at) for g, *at in cases])(cases)


def check_convolutions(library, shapes, stride, padding):
    """A library's convolutions with their gradients by one and by two threads, beside XLA's."""

    def convolved(x, w):
        return conv2d(x, w, stride, padding)

    cases = []
    for images, kernel in shapes:
        x, w = draw(0, images, kernel)
        cases.append((*draw(1, jax.eval_shape(convolved, x, w).shape), x, w))
    expected = of_cases(convolved, cases)
    for threads in (1, 2):
        lowering = convolutions(threads, library)
        with lowered_by(Kernels(lambda geometry, lowering=lowering: lowering)):
            close(of_cases(convolved, cases), expected, 3e-6)


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_onednn_and_both_its_gradients_equal_xlas(stride, padding):
    need("onednn")
    sizes, kernels = [(8, 8), (7, 10), (5, 5)], [(1, 1), (2, 2), (3, 3), (5, 3)]
    shapes = [((4, *size, 3), (*k, 3, 5)) for size, k in itertools.product(sizes, kernels)]
    check_convolutions("onednn", shapes, stride, padding)


def test_onednn_second_derivatives_and_mapped_runs_equal_xlas():
    need("onednn")
    x, w = draw(2, (3, 2, 7, 8, 3), (3, 3, 3, 3, 4))

    def loss(x, w):
        return jnp.sum(jnp.sin(conv2d(x, w, 2)))

    def twice(x, w):
        return jnp.sum(jnp.square(jax.grad(loss, argnums=1)(x, w)))

    def all_runs():
        return jax.vmap(jax.grad(twice, argnums=(0, 1)))(x, w)

    expected = all_runs()
    with lowered_by(Kernels(lambda geometry: convolutions(1))):
        close(all_runs(), expected, 1e-5)


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_winograds_and_both_its_gradients_equal_xlas(padding):
    need("winograd")
    sizes, channels = [(8, 8), (7, 10), (3, 13)], [(16, 16), (48, 32), (32, 80)]
    grid = itertools.product(sizes, channels)
    shapes = [((9, *size, into), (3, 3, into, out)) for size, (into, out) in grid]
    check_convolutions("winograd", shapes, 1, padding)


def test_winograds_results_do_not_depend_on_threads_and_take_uneven_pads():
    need("winograd")
    geometry = Geometry((5, 6, 9, 32), (3, 3, 32, 16), 1, ((2, 0), (0, 1)))
    x, w, g = draw(7, geometry.images, geometry.kernel, geometry.output)
    one, three = (convolutions(threads, "winograd") for threads in (1, 3))
    pairs = ((x, w), (g, w), (x, g))
    for ours, theirs, exact, at in zip(one, three, convolutions(1), pairs, strict=True):
        np.testing.assert_array_equal(ours(*at, geometry), theirs(*at, geometry))
        close(ours(*at, geometry), exact(*at, geometry), 3e-6)


def test_winograd_rounds_a_large_convolution_to_a_few_millionths():
    need("winograd")
    geometry = Geometry((64, 8, 8, 128), (3, 3, 128, 128), 1, ((1, 1), (1, 1)))
    x, w, g = draw(8, geometry.images, geometry.kernel, geometry.output)
    for ours, exact, at in zip(
        convolutions(1, "winograd"), convolutions(1), ((x, w), (g, w), (x, g)), strict=True
    ):
        close(ours(*at, geometry), exact(*at, geometry), 4e-6)


def through_block(x, scale, bias, slope, norm, pool, threads):
    return block(threads)(x, scale if norm else None, bias, slope, pool).out


@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize("pool", [True, False])
@pytest.mark.parametrize("slope", [0.0, 0.1])
def test_the_block_and_its_gradients_equal_the_composed_ones(norm, pool, slope):
    need("block")
    cases = []
    for size, channels in itertools.product([(8, 8), (7, 5)], [1, 3, 8, 31]):
        x, scale, bias = draw(channels, (4, *size, channels), (channels,), (channels,))
        pooled = (4, size[0] // 2, size[1] // 2, channels)
        cases.append((*draw(1, pooled if pool else x.shape), 2.0 * x + 1.0, scale, bias))

    def found(function, **options):
        """Without the gradient of a scale that is not there."""
        results = of_cases(functools.partial(function, norm=norm, pool=pool, **options), cases)
        return [(y, dx, db, *([ds] if norm else [])) for y, (dx, ds, db) in results]

    expected = found(composed, slope=jnp.float32(slope))
    for threads in (1, 2):
        close(found(through_block, slope=slope, threads=threads), expected, 1e-5)


def test_the_block_shares_a_gradient_among_equal_pixels():
    need("block")
    x = jnp.ones((1, 2, 2, 1))
    gradient = jax.grad(lambda x: jnp.sum(block()(x, None, jnp.zeros(1), 0.0, True).out))(x)
    np.testing.assert_array_equal(gradient, jnp.full_like(x, 0.25))


def test_the_peak_is_zero_where_a_channel_is_silent_and_sees_a_cropped_edge():
    need("block")
    x = -jnp.ones((2, 3, 3, 3))
    x = x.at[1, 2, 2, 1].set(0.5)
    found = block()(x, None, jnp.zeros(3), 0.0, True)
    np.testing.assert_array_equal(found.peak, [0.0, 0.5, 0.0])
    assert not found.out.any()


def test_the_block_lets_no_nan_vanish():
    need("block")
    for place in itertools.product(range(2), range(2)):
        x = jnp.zeros((1, 2, 2, 1)).at[0, *place, 0].set(jnp.nan)
        found = block()(x, None, jnp.zeros(1), 0.0, True)
        assert jnp.isnan(found.out).all()
        assert jnp.isnan(found.peak).all()


def test_moments_survive_a_large_mean():
    need("block")
    (x,) = draw(3, (16, 32, 32, 4))
    x = x + 1000.0
    found = block()(x, jnp.ones(4), jnp.zeros(4), 0.0, False)
    exact = np.asarray(x, np.float64).reshape(-1, 4)
    np.testing.assert_allclose(found.mean, exact.mean(0), rtol=1e-6)
    np.testing.assert_allclose(found.variance, exact.var(0), rtol=1e-5)


def test_the_blocks_second_derivatives_are_the_composed_ones():
    need("block")
    point = (*draw(4, (2, 6, 6, 4)), jnp.full(4, 1.2), jnp.full(4, 0.1))

    def curvature(function):
        def slope(*at):
            return jax.grad(lambda *p: jnp.sum(jnp.sin(function(*p))), argnums=(0, 1, 2))(*at)

        return jax.grad(lambda *p: sum(jnp.sum(s**2) for s in slope(*p)), argnums=(0, 1, 2))(*point)

    leak = jnp.float32(0.1)
    ours = curvature(lambda x, s, b: block()(x, s, b, leak, True).out)
    close(ours, curvature(lambda x, s, b: composed(x, s, b, leak, True, True)), 1e-5)


@pytest.mark.parametrize(
    ("images", "kernel", "output", "changes"),
    [
        ((1, 4, 4, 3), (3, 3, 2, 5), (1, 4, 4, 5), {}),
        ((1, 4, 4, 3), (3, 3, 3, 5), (2, 4, 4, 5), {}),
        ((1, 4, 4, 3), (3, 3, 3, 5), (1, 4, 4, 6), {}),
        ((1, 4, 4, 3), (9, 9, 3, 5), (1, 4, 4, 5), {"top": -7}),
        ((1, 4, 4, 3), (3, 3, 3, 5), (1, 4, 4, 5), {"top": 2**40}),
        ((1, 4, 4, 3), (3, 3, 3, 5), (1, 4, 4, 5), {"stride": 0}),
        ((1, 4, 4, 3), (3, 3, 3, 5), (1, 4, 4, 5), {"stride": 2**62}),
        ((1, 4, 4, 3), (3, 3, 3, 5), (1, 4, 4, 5), {"threads": 0}),
        ((1, 4, 4, 3), (3, 3, 3, 5), (1, 400, 4, 5), {}),
        ((1, 4, 4, 3), (1, 1, 3, 5), (1, 2, 2, 5), {"stride": 2}),
    ],
)
@pytest.mark.parametrize("which", [0, 1, 2])
@pytest.mark.parametrize("library", TARGETS)
def test_absurd_calls_are_errors_and_no_crash(library, which, images, kernel, output, changes):
    need(library)
    if library == "winograd":
        images, kernel, output = (
            (*images[:3], 16 * images[3]),
            (*kernel[:2], 16 * kernel[2], 16 * kernel[3]),
            (*output[:3], 16 * output[3]),
        )
    assert_refused(library, which, images, kernel, output, changes)


@pytest.mark.parametrize(
    ("images", "kernel", "stride", "pads"),
    [
        ((1, 4, 4, 3), (3, 3, 3, 16), 1, 1),
        ((1, 4, 4, 16), (3, 3, 16, 24), 1, 1),
        ((1, 4, 4, 16), (5, 5, 16, 16), 1, 2),
        ((1, 4, 4, 16), (3, 3, 16, 16), 2, 1),
        ((1, 4, 4, 16), (3, 3, 16, 16), 1, 3),
        ((1, 4, 4, 4112), (3, 3, 4112, 16), 1, 1),
    ],
)
def test_what_winograd_cannot_compute_is_no_candidate_and_an_error(images, kernel, stride, pads):
    need("winograd")
    geometry = Geometry(images, kernel, stride, ((pads, pads), (pads, pads)))
    assert not computes("winograd", geometry)
    assert "winograd" not in kernels.computable(geometry)
    changes = {"stride": stride, "top": pads, "left": pads}
    for which in range(3):
        assert_refused("winograd", which, images, kernel, geometry.output, changes)


def assert_refused(library, which, images, kernel, output, changes):
    inputs = [(images, kernel), (output, kernel), (images, output)][which]
    result = jax.ShapeDtypeStruct([output, images, kernel][which], jnp.float32)
    version = native.load().loaded[library]
    call = jax.ffi.ffi_call(f"{TARGETS[library][which]}_{version}", result)
    with pytest.raises(jax.errors.JaxRuntimeError, match=r"oneDNN|agree"):
        jax.block_until_ready(
            call(
                *map(jnp.ones, inputs),
                **{"stride": 1, "top": 1, "left": 1, "threads": 1, **changes},
            )
        )


@pytest.fixture(params=[pytest.param("none", marks=pytest.mark.slow), "batch"])
def natively(request, shipped_code):
    """A run of 60 steps whose second block alone is pooled, and the native kernels."""
    need("onednn")
    need("block")
    setup, hyper = tiny(model__norm=request.param)
    return setup, hyper, kernels.kernels(kernels.ENGINES["native"])


def test_a_run_of_60_steps_by_native_kernels_equals_one_by_xlas(natively):
    setup, hyper, engine = natively
    hypers = [hyper._replace(lr=0.01), hyper._replace(lr=0.02, slope=0.1)]
    ours, theirs = (run_pack(setup, hypers, [3, 4], kernels=each) for each in (engine, XLA))
    assert ours[0].step[0] == 60
    assert_close(ours[0].variables, theirs[0].variables, rtol=2e-3, atol=2e-4)
    assert_close(ours[1][1].watched.units, theirs[1][1].watched.units, rtol=0, atol=1e-6)


def test_by_native_kernels_neither_slot_nor_diverged_neighbour_nor_probes_matter(natively):
    setup, hyper, engine = natively
    off = dataclasses.replace(setup.watch, flow="off", units="off")
    quiet = dataclasses.replace(setup, watch=off)
    calm, wild = hyper._replace(lr=0.01), hyper._replace(lr=1e30)
    first, _ = run_pack(setup, [hyper, wild, calm], [3, 4, 5], kernels=engine)
    other, _ = run_pack(quiet, [calm, calm, hyper], [5, 6, 3], kernels=engine)
    assert first.bad_step.tolist()[0] == first.bad_step.tolist()[2] == -1
    assert first.bad_step[1] >= 0 or setup.model.normed
    for ours, theirs in ((0, 2), (2, 0)):
        assert_equal(of_run(first.variables, ours), of_run(other.variables, theirs))


def run_in(cache: pathlib.Path, code: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", f"from fishjax.engine import native\n{code}"],
        env={**os.environ, "XDG_CACHE_HOME": str(cache), **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def test_a_library_is_compiled_once_and_again_when_it_is_damaged(
    tmp_path, quick_compiler, monkeypatch
):
    need("block")
    monkeypatch.setenv("CXX", quick_compiler)
    show = "print(len(native.load().said), len(native.load().loaded))"
    first = run_in(tmp_path, show)
    assert first != "0 0"
    assert run_in(tmp_path, show).startswith("0 " if "onednn" in native.load().loaded else "1 ")
    (library,) = (tmp_path / "fishjax" / "native").glob("block-*.so")
    library.write_bytes(library.read_bytes()[:5000])
    assert "compiled the block" in run_in(tmp_path, "print(native.load().said)")
    library.write_bytes(b"garbage" * 1000)
    assert not native._is_whole(library)


def test_a_library_that_does_not_load_here_is_kept(tmp_path):
    """A cache mounted noexec: compiling at every start would change nothing."""
    path = tmp_path / "block-0.so"
    path.write_bytes(b"garbage")
    with pytest.raises(native.UnavailableError, match="do not load"):
        native._register(native.LIBRARIES[0], path)
    assert path.exists()


def test_without_a_compiler_or_a_folder_it_says_so_and_loads_nothing(tmp_path):
    show = "print(sorted(native.load().loaded), native.load().said)"
    said = run_in(tmp_path, show, PATH="", CXX="")
    assert said.startswith("[]")
    assert said.count("no C++ compiler") == 1
    if native.load().loaded:
        (tmp_path / "file").write_text("")
        assert "no private cache folder" in run_in(tmp_path / "file", show)


def test_a_named_kernel_that_is_missing_is_refused(monkeypatch):
    nothing = native.Native({}, ("no C++ compiler here",))
    monkeypatch.setattr(native, "load", lambda: nothing)
    assert kernels.candidates() == ("canonical", "packed", "strips", "patches", "winograd-xla")
    plain, strided = (Geometry((8, 8, 8, 8), (3, 3, 8, 8), n, ((1, 1), (1, 1))) for n in (1, 2))
    assert "winograd-xla" in kernels.computable(plain)
    assert "winograd-xla" not in kernels.computable(strided)
    assert kernels.fastest_block() == "closed"
    with pytest.raises(kernels.UsageError, match="no C\\+\\+ compiler here"):
        kernels.kernels(kernels.ENGINES["native"])
