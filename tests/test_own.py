"""A network of the user's own: Flax's numbers, the same probes, refused where it cannot run."""

import dataclasses
import functools
import json
from concurrent.futures import ThreadPoolExecutor

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pyarrow.parquet as pq
import pytest
from flax import nnx
from jax import lax

import fishjax
from fishjax import train
from fishjax.config import Config
from fishjax.data.source import open_source
from fishjax.evidence.plan import Claim, Contrast, Plan, Reading, Scenario, Target
from fishjax.fields import UsageError
from fishjax.nn import modules
from fishjax.nn.lowering import Kernels, lowered_by
from fishjax.nn.model import Probe, Variables
from fishjax.nn.modules import convolve
from fishjax.nn.own import adapt, source_digest
from fishjax.settings import override
from fishjax.study import Request, Scale, Study
from fishjax.sweep import Arm, Tuned, Tuning
from fishjax.workplace import Workplace
from tests import own_nets
from tests.commands import run_study
from tests.hlo import as_shipped, faults
from tests.runs import TINY, as_arrays, build, make_feed, tiny

IMAGES = jax.random.normal(jax.random.key(7), (5, 8, 8, 3))


def own(name):
    setup, hyper = tiny(model__own=f"tests.own_nets:{name}")
    return adapt(setup), as_arrays(hyper)


def worst(a, b):
    """The largest difference between two trees."""
    assert jax.tree.structure(a) == jax.tree.structure(b)
    gaps = jax.tree.map(lambda x, y: jnp.max(jnp.abs(x - y)), a, b)
    return float(max(jax.tree.leaves(gaps)))


def answers(model, hyper, params, probe):
    """Logits, taps, and the gradient of a loss in the parameters and the nudges."""

    def loss(params, nudge):
        seen = Probe(nudge=nudge, mask=probe.mask)
        out = model.apply(Variables(params, {}), IMAGES, hyper, train=False, probe=seen)
        return jnp.sum(jnp.sin(out.logits)), (out.logits, dict(out.taps))

    grads, out = jax.jit(jax.grad(loss, argnums=(0, 1), has_aux=True))(params, dict(probe.nudge))
    return *out, *grads


@pytest.fixture(scope="module")
def probe():
    shapes = {"conv0": (5, 8, 8, 4), "conv1": (5, 4, 4, 6), "dense0": (5, 8)}
    keys = jax.random.split(jax.random.key(3), 3)
    each = zip(shapes.items(), keys, strict=True)
    nudge = {name: 0.1 * jax.random.normal(key, shape) for (name, shape), key in each}
    return Probe(nudge=nudge, mask={"conv1": jnp.asarray([1.0, 0.0, 1.0, 0.0, 1.0, 1.0])})


def test_a_linen_copy_of_the_plain_net_gives_its_logits_taps_and_gradients(probe):
    model, hyper = own("linen_net")
    ours = build(tiny()[0])
    assert (model.layers, model.hidden, model.units) == (ours.layers, ours.hidden, ours.units)
    params = ours.init(jax.random.key(0), hyper).params
    gaps = [
        worst(a, b)
        for a, b in zip(
            answers(model, hyper, params, probe), answers(ours, hyper, params, probe), strict=True
        )
    ]
    print("logits, taps, gradient, gradient at nudge:", gaps)
    assert max(gaps) < 1e-5


def test_its_start_is_flaxs_own():
    model, hyper = own("linen_net")
    start = own_nets.linen_net(3).init(jax.random.key(5), jnp.zeros((1, 8, 8, 3)))["params"]
    assert worst(dict(model.init(jax.random.key(5), hyper).params), start) == 0


def plain_loss(module, variables, images, **options):
    return jnp.sum(jnp.sin(module.apply(variables, images, **options)))


def test_the_gradients_are_those_of_flax_and_lax_alone():
    model, hyper = own("linen_net")
    variables = model.init(jax.random.key(5), hyper)
    params = dict(variables.params)

    def loss(params):
        out = model.apply(Variables(params, {}), IMAGES, hyper, train=True)
        return jnp.sum(jnp.sin(out.logits))

    module = own_nets.linen_net(3)
    alone = jax.jit(jax.grad(lambda params: plain_loss(module, {"params": params}, IMAGES)))
    gap = worst(jax.jit(jax.grad(loss))(params), alone(params))
    print("gradient:", gap)
    assert gap < 1e-5


@pytest.mark.parametrize(
    ("padding", "options"),
    [
        ("SAME", {"window_strides": (2, 2)}),
        (((1, 2), (0, 1)), {"window_strides": (2, 2)}),
        ("VALID", {"window_strides": (1, 1)}),
        ("SAME", {"window_strides": (2, 1)}),
        ("SAME", {"window_strides": (1, 1), "rhs_dilation": (2, 2)}),
        ("SAME", {"window_strides": (1, 1), "feature_group_count": 3}),
    ],
)
def test_a_convolution_of_flax_is_laxs_with_its_gradients(padding, options):
    x = jax.random.normal(jax.random.key(1), (2, 9, 8, 3))
    channels = 3 // options.get("feature_group_count", 1)
    w = jax.random.normal(jax.random.key(2), (3, 3, channels, 6))
    strides = options["window_strides"]
    rest = {name: value for name, value in options.items() if name != "window_strides"}
    numbers = lax.conv_dimension_numbers(x.shape, w.shape, ("NHWC", "HWIO", "NHWC"))
    rest |= {"dimension_numbers": numbers, "precision": None}

    def run(function):
        def loss(x, w):
            y = function(x, w, strides, padding, **rest)
            return jnp.sum(jnp.sin(y)), y

        return jax.grad(loss, argnums=(0, 1), has_aux=True)(x, w)

    gap = worst(run(convolve), run(lax.conv_general_dilated))
    print(f"convolution {padding} {strides}:", gap)
    assert gap < 2e-5


def scanned(name):
    """The compiled text of a few gradient steps of a network inside a scan."""
    model, hyper = own(name)

    def step(params, key):
        def loss(params):
            now = Variables(params, variables.stats)
            return jnp.sum(model.apply(now, IMAGES, hyper, train=True, key=key).logits ** 2)

        return jax.tree.map(lambda p, g: p - 0.1 * g, params, jax.grad(loss)(params)), None

    variables = model.init(jax.random.key(0), hyper)
    keys = jax.random.split(jax.random.key(1), 3)
    run = jax.jit(functools.partial(lax.scan, step))
    return as_shipped(run.lower(dict(variables.params), keys))


@pytest.mark.parametrize("name", ["Normed", "Graph"])
def test_a_network_in_a_scan_has_no_slow_kernel(name):
    assert faults(scanned(name)) == []


def test_the_same_look_finds_flaxs_own_convolution(monkeypatch):
    monkeypatch.setattr(modules, "convolve", lax.conv_general_dilated)
    assert any("convolution" in fault for fault in faults(scanned("Graph")))


@pytest.mark.parametrize("name", ["Normed", "Graph"])
def test_layers_taps_and_statistics_are_those_of_the_module(name):
    model, hyper = own(name)
    variables = model.init(jax.random.key(0), hyper)
    quiet = model.apply(variables, IMAGES, hyper, train=False)
    loud = model.apply(variables, IMAGES, hyper, train=True)
    expected = {"Normed": reference_linen, "Graph": reference_nnx}[name](model, hyper)
    for out, (logits, taps, stats) in zip((quiet, loud), expected, strict=True):
        assert out.taps.keys() == taps.keys() == set(model.hidden)
        gap = worst((out.logits, dict(out.taps), out.stats), (logits, taps, stats))
        print(name, gap)
        assert gap < 1e-5


def reference_linen(model, hyper):
    """Evaluation and training without dropout by Flax alone, tapped by its own capture."""
    module = own_nets.Normed(3)
    variables = module.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)), train=False)
    assert model.layers == ("stem", "body", "Dense_0")
    zero = {"dropout": jax.random.key(0)}
    for training in (False, True):
        with nn.intercept_methods(without_dropout):
            logits, new = module.apply(
                variables,
                IMAGES,
                train=training,
                rngs=zero,
                capture_intermediates=True,
                mutable=["batch_stats", "intermediates"],
            )
        seen = new["intermediates"]
        taps = {
            "stem": jax.nn.relu(seen["norm"]["__call__"][0]),
            "body": jax.nn.gelu(seen["body"]["__call__"][0]),
        }
        stats = new["batch_stats"] if training else variables["batch_stats"]
        yield logits, taps, {f"batch_stats/norm/{k}": v for k, v in stats["norm"].items()}


def without_dropout(call, args, kwargs, context):
    return args[0] if isinstance(context.module, nn.Dropout) else call(*args, **kwargs)


def reference_nnx(model, hyper):
    """Evaluation and training without dropout, the layers called one after the other."""
    assert model.layers == ("convs/0", "convs/1", "head")
    for training in (False, True):
        net = own_nets.Graph(3, rngs=nnx.Rngs(jax.random.key(0)))
        (net.train if training else net.eval)()
        first = nnx.relu(net.norm(net.convs[0](IMAGES)))
        second = nnx.gelu(net.convs[1](own_nets.max_pool(first)))
        stats = {"norm/mean": net.norm.mean[...], "norm/var": net.norm.var[...]}
        yield net.head(second.mean((1, 2))), {"convs/0": first, "convs/1": second}, stats


@pytest.mark.parametrize("name", ["Normed", "Graph"])
def test_units_are_dropped_in_training_by_the_key(name):
    model, hyper = own(name)
    variables = model.init(jax.random.key(0), hyper)

    def logits(seed):
        return model.apply(variables, IMAGES, hyper, train=True, key=jax.random.key(seed)).logits

    assert worst(logits(1), logits(1)) == 0
    assert worst(logits(1), logits(2)) > 1e-3


@pytest.mark.parametrize("name", ["linen_net", "Graph", "pair"])
def test_every_seed_draws_its_own_start(name):
    model, hyper = own(name)
    first, again, other = (model.init(jax.random.key(seed), hyper).params for seed in (1, 1, 2))
    assert worst(first, again) == 0
    kernels = [worst(first[layer]["kernel"], other[layer]["kernel"]) for layer in model.layers]
    assert min(kernels) > 1e-3


def test_layers_inside_a_remat_are_tapped():
    model, hyper = own("Rematted")
    variables = model.init(jax.random.key(0), hyper)
    out = model.apply(variables, IMAGES, hyper, train=False)
    bias, kernel = (variables.params["block/Conv_0"][leaf] for leaf in ("bias", "kernel"))
    assert model.hidden == ("block/Conv_0",)
    pre = lax.conv_general_dilated(
        IMAGES, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    assert worst(out.taps["block/Conv_0"], jnp.maximum(pre + bias[None, None, None], 0.0)) < 1e-5


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tests.own_nets", "takes package.module:factory"),
        ("tests.own_nest:linen_net", "tests.own_nest cannot be imported: ModuleNotFoundError"),
        ("tests.own_nets:linen_nett", "no factory 'linen_nett'; did you mean 'linen_net'"),
        ("tests.own_nets:number", "returns int, not a Flax module or a pair"),
        ("tests.own_nets:broken", "cannot be made for 3 classes: ZeroDivisionError"),
        ("tests.own_nets:unseeded", "takes no rngs, so every seed would start the same"),
        ("tests.own_nets:too_wide", r"returns float32\[2, 4\], not logits float32\[2, 3\]"),
        ("tests.own_nets:Wrong", r"fails on images float32\[2, 8, 8, 3\]: .*shape"),
        ("tests.own_nets:Flat", "no hidden layer to watch; its layers: Dense_0"),
        ("tests.own_nets:mispair", "unknown layer 'wida'; did you mean 'wide'"),
        ("tests.own_nets:Missown", "sows 'conv/relu', below no hidden layer; did you mean 'Conv_0"),
        ("tests.own_nets:Poolsown", r"sows Conv_0/relu \[2, 4\], but Conv_0 gives \[2, 8, 8, 4\]"),
    ],
)
def test_what_is_no_network_is_refused_by_name(name, message):
    with pytest.raises(UsageError, match=message):
        adapt(tiny(model__own=name)[0])


DATA = "reef:classes=3,train=96,test=24"
ACCURACY = Reading("test_accuracy")
STUDY = Study(
    name="owned",
    base=override(Config(), {**TINY, "data.image_size": 16}),
    arms=(Arm("plain", {"hyper.lr": Tuned("plain")}), Arm("slow", {"hyper.lr": 0.001})),
    plan=Plan(
        Scenario("S0", "it learns", (Target("accuracy", "some", ACCURACY, "plain", low=0.0),)),
        (Claim("0.1", "rate", "directional", Contrast(ACCURACY, "slow", "plain", 1, 0.02)),),
        (),
    ),
    scales={"laptop": Scale((0, 1), Tuning(("plain",), (0.05,), (1000,)))},
)


@pytest.mark.parametrize("name", ["linen_net", "Graph", "pair"])
def test_a_mapped_run_fits_together_with_every_measure(name):
    also = ("activations", "features", "noise", "batch_stats", "curvature", "probe", "cosine")
    setup, hyper = tiny(model__own=f"tests.own_nets:{name}", watch__also=also)
    model, feed = adapt(setup), make_feed(setup)
    keys = jax.vmap(jax.random.key)(jnp.arange(2, dtype=jnp.uint32))
    run = jax.vmap(lambda key: train.train(setup, as_arrays(hyper), key, feed))
    state, trace, evaluation, examination = jax.eval_shape(run, keys)
    assert state.variables.params[model.layers[0]]["kernel"].shape[0] == 2
    assert trace.watched.flow["flow"].shape == (2, 2, 2, len(model.layers))
    assert evaluation.units["dead_share"].shape == (2, 3, len(model.hidden))
    assert examination.dormant_share.shape == (2, len(model.hidden))


def test_a_study_runs_on_it_names_its_layers_and_gives_it_back(tmp_path):
    name, folder = "Normed", tmp_path / "out"
    asked = ("--data", DATA, "--out", str(folder), "--set", f"model.own=tests.own_nets:{name}")
    assert run_study(STUDY, *asked, figures=True) == 0
    model, _ = own(name)
    (log,) = folder.glob("cells/plain-*/seed=0001/metrics.jsonl")
    line = json.loads(log.read_text().splitlines()[0])
    assert len(line["dead_share"]) == len(model.hidden)
    rows = pq.read_table(folder / "results.parquet").to_pandas()
    for metric, layers in {"dead_share": model.hidden, "flow": model.layers}.items():
        found = rows[rows["metric"] == metric]
        assert set(found["part"]) == set(layers)
        assert np.isfinite(found["value"]).all()
    cell = next((folder / "cells").glob("plain-*/seed=0001"))
    stored = pq.read_table(cell / "predictions.parquet").to_pandas()
    images = open_source(DATA, 16).images[stored["example"]]
    logits = stored[[f"logit_{k}" for k in range(3)]].to_numpy()
    expected = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    given_back = fishjax.load(folder, "plain", 1).predict(images)
    np.testing.assert_allclose(given_back, expected, rtol=1e-4, atol=1e-6)


def test_a_study_refuses_a_missing_network_and_writes_nothing(tmp_path, capsys):
    asked = ("--data", DATA, "--out", str(tmp_path / "out"))
    assert run_study(STUDY, *asked, "--set", "model.own=tests.own_nets:linen_nett") == 2
    assert "did you mean 'linen_net'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("by", ["base", "arm"])
def test_code_that_was_edited_between_two_starts_is_refused(by, tmp_path, monkeypatch):
    folder, name = tmp_path / "out", f"net_of_{by}:linen_net"
    code = tmp_path / f"net_of_{by}.py"
    code.write_text("from tests.own_nets import Plain\n\n\ndef linen_net(classes):\n")
    with code.open("a") as file:
        file.write("    return Plain(classes)\n")
    monkeypatch.syspath_prepend(tmp_path)
    study, settings = STUDY, {"model.own": name}
    if by == "arm":
        arms = (*STUDY.arms, Arm("own", {"model.own": name}))
        study, settings = dataclasses.replace(STUDY, arms=arms), {}
    request = Request("laptop", DATA, folder, settings=settings)

    def start():
        Workplace(study, request).pin({"arms": {}, "seeds": [0]}, "seeds", ())

    start()
    start()
    before = (folder / "sweep.json").read_bytes()
    code.write_text(code.read_text().replace("Plain(classes)", "Plain(classes + 0)"))
    with pytest.raises(UsageError, match=f"other code of model.own={name}.*another --out"):
        start()
    assert (folder / "sweep.json").read_bytes() == before


def test_the_code_of_a_factory_is_that_of_the_module_that_defines_it_too(tmp_path, monkeypatch):
    (tmp_path / "outer_net.py").write_text("from inner_net import build\n")
    (tmp_path / "inner_net.py").write_text("def build(classes):\n    return classes\n")
    monkeypatch.syspath_prepend(tmp_path)
    first = source_digest("outer_net:build")
    assert first == source_digest("outer_net:build")
    (tmp_path / "inner_net.py").write_text("def build(classes):\n    return classes + 1\n")
    second = source_digest("outer_net:build")
    (tmp_path / "outer_net.py").write_text("from inner_net import build  # again\n")
    assert len({first, second, source_digest("outer_net:build")}) == 3


def test_programs_that_are_traced_in_several_threads_are_all_hooked():
    """As a resume traces them; nnx has no hooks but its classes, which the threads share."""
    model, hyper = own("Slow")
    variables = model.init(jax.random.key(0), hyper)

    def taps(_):
        seen = jax.eval_shape(lambda v: model.apply(v, IMAGES, hyper, train=False).taps, variables)
        return sorted(seen)

    with ThreadPoolExecutor(3) as threads:
        found = list(threads.map(taps, range(3)))
    assert found == [["first", "second"]] * 3
    assert taps(0) == ["first", "second"]


def test_a_convolution_in_half_precision_is_left_to_lax():
    def refuse(geometry):
        raise AssertionError(geometry)

    model, hyper = own("Half")
    variables = model.init(jax.random.key(0), hyper)
    with lowered_by(Kernels(refuse)):
        out = model.apply(variables, IMAGES, hyper, train=False)
    assert out.logits.dtype == jnp.float32
    assert np.isfinite(out.logits).all()
