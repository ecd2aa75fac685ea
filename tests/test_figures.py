"""Figures: equal bytes from equal results, any name, and results with holes."""

import io
import xml.etree.ElementTree as ElementTree

import matplotlib
import numpy as np
import pytest
from studies import HOSTILE, diverge, made_up_results, made_up_summary

from fishjax.present.figures import CAPTIONS, layer_map, learning_curves, write_figures
from fishjax.present.layers import casualties, dead_percent, log_flow
from fishjax.present.paper import style
from fishjax.present.wording import plain

FILES = ["layer_map.pdf", "layer_map.svg", "learning_curves.pdf", "learning_curves.svg"]


def svg(figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue().decode()


def texts(document: str) -> list[str]:
    root = ElementTree.fromstring(document)
    return ["".join(node.itertext()) for node in root.iter("{http://www.w3.org/2000/svg}text")]


def meshes(figure) -> list[np.ndarray]:
    """What each heat map shows, `[layer, epoch]`, arms in order within a row."""
    panels = [axes.collections[0] for axes in figure.axes if axes.get_visible()]
    return [mesh.get_array() for mesh in panels if hasattr(mesh, "get_coordinates")]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Two folders written from the same results, and a third from results that differ."""
    folder = tmp_path_factory.mktemp("figures")
    summary, results = made_up_summary(study="a <b> & c"), diverge(made_up_results(), "leaky", [1])
    before = dict(matplotlib.rcParams)
    write_figures(summary, results, folder / "first")
    assert dict(matplotlib.rcParams) == before
    write_figures(summary, results, folder / "again")
    write_figures(summary, made_up_results(), folder / "other")
    return folder


@pytest.mark.parametrize("name", FILES)
def test_equal_results_give_equal_bytes_and_others_do_not(written, name):
    assert sorted(path.name for path in (written / "first").iterdir()) == FILES
    first, again, other = ((written / f / name).read_bytes() for f in ("first", "again", "other"))
    assert first == again
    assert first != other
    assert b"CreationDate" not in first
    assert b"dc:date" not in first


def test_figures_carry_their_title_and_caption(written):
    document = (written / "first" / "layer_map.svg").read_text()
    assert "a &lt;b&gt; &amp; c: layer map" in document
    assert CAPTIONS["layer_map"] in document


def test_curves_are_the_mean_over_seeds_with_a_band_from_lowest_to_highest():
    results = made_up_results(arms=("relu",))
    with style():
        accuracy, loss = learning_curves(results).axes
    (line,) = accuracy.lines
    values = 100 * results["val_accuracy"].sel(arm="relu")
    np.testing.assert_allclose(line.get_xdata(), results["epoch"])
    np.testing.assert_allclose(line.get_ydata(), values.mean("seed"))
    band = accuracy.collections[0].get_paths()[0].vertices
    assert band[:, 1].max() == pytest.approx(values.max())
    assert band[:, 1].min() == pytest.approx(values.min())
    assert (accuracy.get_ylabel(), loss.get_ylabel()) == (
        "validation accuracy (%)",
        "training loss",
    )


def test_curves_leave_out_epochs_without_an_evaluation_and_runs_that_diverged():
    results = made_up_results()
    results["val_accuracy"][:, :, 1::2] = np.nan
    with style():
        figure = learning_curves(diverge(results, "leaky", [0, 2]))
    relu, leaky = figure.axes[0].lines
    np.testing.assert_array_equal(relu.get_xdata(), [0, 10, 20])
    kept = results["val_accuracy"].sel(arm="leaky", seed=[1, 3]).mean("seed")[::2]
    np.testing.assert_allclose(leaky.get_ydata(), 100 * kept)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "relu",
        "leaky (2 of 4 diverged)",
    ]


def test_arms_differ_without_colour():
    with style():
        figure = learning_curves(made_up_results(arms=[f"arm {i}" for i in range(12)]))
    looks = {(line.get_marker(), line.get_linestyle()) for line in figure.axes[0].lines}
    colours = [(line.get_color(), line.get_marker()) for line in figure.axes[0].lines]
    assert len({marker for marker, _ in looks}) == 12
    assert len(set(colours)) == 12


def test_arms_too_many_to_tell_apart_have_a_panel_each():
    arms = [f"arm {i}" for i in range(13)]
    results = diverge(made_up_results(arms=arms), "arm 2", [1])
    with style():
        figure = learning_curves(results)
    panels = [axes for axes in figure.axes if axes.get_visible()]
    assert len(panels) == 2 * len(arms)
    assert all(len(axes.lines) == 1 for axes in panels)
    titles = [axes.get_title() for axes in panels if axes.get_title()]
    assert titles == ["arm 0", "arm 1", "arm 2\n(1 of 4 diverged)", *arms[3:]]
    accuracy = [axes for axes in panels if axes.get_title()]
    assert len({axes.get_ylim() for axes in accuracy}) == 1
    values = 100 * results["val_accuracy"].sel(arm="arm 12").mean("seed")
    np.testing.assert_allclose(accuracy[-1].lines[0].get_ydata(), values)


def test_maps_have_no_row_for_a_flow_that_was_not_measured():
    results = made_up_results()
    with style():
        figure = layer_map(results.assign(flow=results["flow"] * np.nan))
    assert len(meshes(figure)) == 2


def test_maps_show_the_mean_dead_share_and_the_median_flow():
    results = made_up_results()
    with style():
        dead_relu, dead_leaky, flow_relu, flow_leaky = meshes(layer_map(results))
    for shown, arm in ((dead_relu, "relu"), (dead_leaky, "leaky")):
        expected = 100 * results["dead_share"].sel(arm=arm).mean("seed").T
        np.testing.assert_allclose(shown.filled(np.nan), expected)
    for shown, arm in ((flow_relu, "relu"), (flow_leaky, "leaky")):
        expected = np.log10(results["flow"].sel(arm=arm).median("seed").T)
        np.testing.assert_allclose(shown, expected)


def test_all_maps_of_a_kind_share_one_scale():
    results = made_up_results(arms=[f"arm {i}" for i in range(8)])
    results["flow"][0] = 1e-20
    results["flow"][1] = 0.0
    with style():
        figure = layer_map(results)
    scales = {
        axes.collections[0].get_clim()
        for axes in figure.axes
        if axes.get_visible() and axes.collections and axes.get_label() != "<colorbar>"
    }
    top = float(log_flow(results).max())
    assert scales == {(0, 100), (top - 6, top)}


def test_an_arm_that_blew_up_does_not_blacken_the_others():
    results = made_up_results(arms=[f"arm {i}" for i in range(8)])
    top = float(log_flow(results).max())
    results["flow"][0] = 1e9
    with style():
        figure = layer_map(results)
    panels = [axes.collections[0] for axes in figure.axes if axes.collections]
    flow = [panel for panel in panels if panel.get_clim() != (0, 100)][:8]
    blown, other = (panel.to_rgba(panel.get_array()) for panel in flow[:2])
    assert flow[1].get_clim()[1] < top + 2
    assert (blown == 1).all()
    assert not (other[..., :3] == 0).all(axis=-1).any()


def test_a_flow_of_nothing_is_drawn_and_a_flow_not_measured_is_not():
    results = made_up_results(arms=("dead", "unwatched"))
    results["flow"][0, :, :, 0] = 0.0
    results["flow"][1, :, :, 1] = np.nan
    with style():
        figure = layer_map(results)
    dead, unwatched = meshes(figure)[2:]
    assert not np.ma.getmaskarray(dead).any()
    np.testing.assert_array_equal(
        np.ma.getmaskarray(unwatched), [[False] * 5, [True] * 5, [False] * 5]
    )
    mesh = figure.axes[2].collections[0]
    np.testing.assert_array_equal(mesh.to_rgba(dead)[0], np.tile([0, 0, 0, 1], (5, 1)))


def test_layers_are_named_from_the_input_down():
    with style():
        figure = layer_map(made_up_results(layers=32))
        labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == [f"conv{i}" for i in range(1, 32, 4)]
    bottom, top = figure.axes[0].get_ylim()
    assert top < bottom


@pytest.mark.parametrize(("arms", "layers"), [(1, 2), (5, 6), (7, 32), (12, 2), (12, 32), (23, 6)])
def test_every_number_of_arms_and_layers_fits_a_page(arms, layers):
    results = made_up_results(arms=[f"arm {i}" for i in range(arms)], seeds=2, layers=layers)
    with style():
        curves, maps = learning_curves(results), layer_map(results)
    assert len(meshes(maps)) == 2 * arms
    for figure in (curves, maps):
        width, height = figure.get_size_inches()
        assert width <= 7
        assert height <= 9


def test_hostile_names_are_text_and_nothing_else():
    results = made_up_results(arms=HOSTILE, seeds=2)
    results = results.assign_coords(layer=["<b>&", "$x^$", "_c"])
    with style():
        curves, layers = svg(learning_curves(results)), svg(layer_map(results))
    for document in (curves, layers):
        assert "<script" not in document
        assert "\x1b" not in document
    shown = texts(curves)
    for name in HOSTILE:
        assert any(plain(name) in text for text in shown), name
    assert {"<b>&", "$x^$", "_c"} <= set(texts(layers))
    assert not [text for text in shown if "mathdefault" in text], "mathematics is not read"


@pytest.mark.parametrize(
    "damage",
    [
        lambda r: r.isel(seed=[0]),
        lambda r: r.isel(epoch=[0]),
        lambda r: r.isel(arm=[0], seed=[0]),
        lambda r: diverge(r, "leaky", [0, 1, 2, 3]),
        lambda r: r.where(r["arm"] == "relu"),
        lambda r: r.assign(dead_share=r["dead_share"] * np.nan, flow=r["flow"] * np.nan),
        lambda r: r.assign(flow=r["flow"] * 0),
        lambda r: r.drop_vars("flow"),
        lambda r: r.assign(val_accuracy=r["val_accuracy"] * np.nan),
    ],
    ids=[
        "one seed",
        "one epoch",
        "one run",
        "all diverged",
        "an arm without runs",
        "no probes",
        "no flow at all",
        "flow not watched",
        "no accuracy",
    ],
)
def test_results_with_holes_are_drawn(damage):
    with style():
        for draw in (learning_curves, layer_map):
            draw(damage(made_up_results())).draw_without_rendering()


def test_diverged_runs_are_left_out_of_the_layers():
    results = made_up_results()
    lost = diverge(results, "relu", [1, 3])
    kept = results.sel(arm="relu", seed=[0, 2])
    np.testing.assert_allclose(
        dead_percent(lost).sel(arm="relu"), 100 * kept["dead_share"].mean("seed")
    )
    np.testing.assert_allclose(
        log_flow(lost).sel(arm="relu"), np.log10(kept["flow"].median("seed"))
    )
    assert casualties(lost, "relu") == "(2 of 4 diverged)"
    assert casualties(lost, "leaky") == ""
