"""The fastest convolution for each shape of a network, measured once on a machine and kept."""

import contextlib
import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib import metadata

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import PartitionSpec

from fishjax.engine import kernels
from fishjax.engine.devices import cores, processor, run_mesh
from fishjax.engine.folders import cache_folder, private
from fishjax.engine.memory import is_of_memory
from fishjax.engine.program import RunMapping
from fishjax.files import write_atomically
from fishjax.nn.lowering import Geometry, Kernels, Lowering, lowered_by
from fishjax.nn.lowerings.canonical import CANONICAL
from fishjax.nn.models import build
from fishjax.provenance import digest
from fishjax.setup import Hyper, Setup

_ROUNDS, _ROUND_S, _FASTER = 5, 0.01, 0.95
_COLOURS = 3


def measured(runs: Iterable[tuple[Setup, Hyper]], mapping: RunMapping, width: int) -> kernels.Names:
    """The kernels to compute runs with: for each setup the inputs of one.

    Another convolution than the backend's first is taken where it is 5 % faster.
    """
    tried = kernels.candidates()
    chosen = {"": tried[0]}
    if len(tried) > 1:
        shapes = {shape for setup, hyper in runs for shape in geometries(setup, hyper)}
        for shape in sorted(shapes, key=str):
            chosen[str(shape)] = _remembered(shape, kernels.computable(shape), mapping, width)
    return {"block": kernels.fastest_block(), "convolution": chosen}


def geometries(setup: Setup, hyper: Hyper) -> set[Geometry]:
    """The convolutions of a training step."""
    model, seen = build(setup), set()

    def note(geometry: Geometry) -> Lowering:
        seen.add(geometry)
        return CANONICAL

    def forward(key: jax.Array, images: jax.Array) -> jax.Array:
        return model.apply(model.init(key, hyper), images, hyper, train=True, key=key).logits

    size = setup.data.image_size
    images = jax.ShapeDtypeStruct((setup.optim.batch_size, size, size, _COLOURS), jnp.float32)
    with lowered_by(Kernels(note)):
        jax.eval_shape(forward, jax.random.key(0), images)
    return {shape for shape in seen if shape.images[0] == setup.optim.batch_size}


def _remembered(shape: Geometry, tried: tuple[str, ...], mapping: RunMapping, width: int) -> str:
    """The fastest for a shape, from the user's cache or measured now and written there."""
    folder = private(cache_folder("measured"))
    if folder is None:
        return _fastest(tried, _seconds(shape, tried, mapping, width))
    code = digest("nn/lowerings"), digest("engine/sources"), metadata.version("jaxlib")
    about = (str(shape), tried, mapping, width, _device(), code)
    file = folder / hashlib.sha256(repr(about).encode()).hexdigest()[:24]
    known = b""
    with contextlib.suppress(OSError):
        known = file.read_bytes()
    if found := next((name for name in tried if name.encode() == known), None):
        return found
    seconds = _seconds(shape, tried, mapping, width)
    found = _fastest(tried, seconds)
    if len(seconds) == len(tried):
        with contextlib.suppress(OSError):
            write_atomically(file, found.encode())
    return found


def _fastest(tried: tuple[str, ...], seconds: Mapping[str, float]) -> str:
    """The first that was tried, unless another that was measured is enough faster."""
    if not seconds:
        return tried[0]
    best = min(seconds, key=lambda name: seconds[name])
    return best if seconds[best] < _FASTER * seconds.get(tried[0], np.inf) else tried[0]


def _seconds(
    shape: Geometry, tried: tuple[str, ...], mapping: RunMapping, width: int
) -> dict[str, float]:
    """Medians of interleaved rounds, on all devices at once as in a study.

    Without those that the memory is too small for beside the others.
    """
    timers: dict[str, Callable[[], float]] = {}
    taken: dict[str, list[float]] = {name: [] for name in tried}
    for name in tried:
        with _left_out_of_memory():
            timers[name] = _timer(kernels.lowering(name), shape, mapping, width)
    for _ in range(_ROUNDS):
        for name, timer in timers.items():
            with _left_out_of_memory():
                taken[name].append(timer())
    return {name: float(np.median(each)) for name, each in taken.items() if len(each) == _ROUNDS}


@contextlib.contextmanager
def _left_out_of_memory() -> Iterator[None]:
    """Ends a block where memory runs out."""
    try:
        yield
    except Exception as error:
        if not is_of_memory(error):
            raise


def _timer(
    lowering: Lowering, shape: Geometry, mapping: RunMapping, width: int
) -> Callable[[], float]:
    """What measures the seconds of one convolution with its gradients, warmed up.

    Of `width` runs together where they are mapped by vmap, of one run to a device where they
    follow one another. Images and kernels change from one time to the next: what depends on either
    alone would be computed once for all. NumPy draws them: JAX would compile for seconds.
    """
    devices = run_mesh(width).devices.size
    runs = devices if mapping == "map" else width
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.standard_normal((runs, *shape.images), np.float32))
    w = jnp.asarray(rng.standard_normal((runs, *shape.kernel), np.float32))

    def once(x: jax.Array, w: jax.Array, times: jax.Array) -> tuple[jax.Array, jax.Array]:
        def body(_: jax.Array, at: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            x, w = at
            y = lowering.forward(x, w, shape)
            w = w + 1e-9 * lowering.kernel_gradient(x, y, shape)
            first = shape.kernel[2] == _COLOURS
            back = w[0, 0, 0, 0] if first else lowering.input_gradient(y, w, shape)
            return x + 1e-9 * back, w

        return lax.fori_loop(0, times, body, (x, w))

    along, everywhere = PartitionSpec("run"), PartitionSpec()
    mapped = jax.vmap(once, in_axes=(0, 0, None))
    spread = jax.shard_map(
        mapped,
        mesh=run_mesh(runs),
        in_specs=(along, along, everywhere),
        out_specs=along,
        check_vma=False,
    )
    compiled = jax.jit(spread).lower(x, w, jnp.int32(1)).compile()

    def seconds(times: int) -> float:
        start = time.perf_counter()
        jax.block_until_ready(compiled(x, w, jnp.int32(times)))
        return time.perf_counter() - start

    seconds(1)
    times = max(1, int(_ROUND_S / seconds(2) * 2))
    return lambda: seconds(times) / times


def _device() -> tuple:
    """What a measurement holds for."""
    device = jax.local_devices()[0]
    kind = processor() if device.platform == "cpu" else device.device_kind
    return device.platform, kind, jax.local_device_count(), cores()
