"""A learning-rate range test as a table and a figure."""

import pathlib

import numpy as np
from matplotlib.figure import Figure

from fishjax.evidence.range_test import RangeTest
from fishjax.present.paper import COLOURS, DASHES, write_figure
from fishjax.present.table import Cell, Column, Number, Table
from fishjax.present.wording import Quantity

RATE = Quantity("rate")
SEED_COLOUR = "#b0b0b0"
RULE_DASHES = (*DASHES[1:], (8, 2))
CAPTION = (
    "Training loss while the learning rate rises (running mean, until four times its best): "
    "median over seeds, the seeds thin. Dashed: the rate each rule suggests, median over seeds; "
    "the band reaches from the lowest to the highest seed."
)


def rates_table(test: RangeTest, subject: str) -> Table:
    """A row per rule: the rate it suggests, median over seeds with the lowest and highest."""
    columns = (
        Column("rule", "rule"),
        Column("rate", "suggested rate", estimate=True),
        Column("seeds", "seeds"),
    )
    rows: list[tuple[Cell, ...]] = []
    for rule, rates in _found(test).items():
        middle, ends = _spread(rates)
        rows.append((rule, Number(middle, RATE, ends), len(rates)))
    caption = f"Learning rates for {subject}, by a range test: median over seeds [lowest, highest]."
    return Table("rates", caption, columns, tuple(rows))


def loss_curve(test: RangeTest) -> Figure:
    """Smoothed loss over rate: the median of the seeds, each seed, and the rates suggested."""
    figure = Figure(figsize=(4.2, 3.0), layout="constrained")
    axes = figure.subplots()
    curves = test.smoothed
    for curve in curves:
        axes.plot(test.rates, curve, color=SEED_COLOUR, linewidth=0.6)
    whole = np.median(np.where(np.isnan(curves), np.inf, curves), axis=0)
    median = np.where(np.isfinite(whole), whole, np.nan)
    axes.plot(
        test.rates, median, color="black", linewidth=1.4, label=f"median of {len(curves)} seeds"
    )
    looks = zip(COLOURS, RULE_DASHES, strict=False)
    for (rule, rates), (colour, dashes) in zip(_found(test).items(), looks, strict=False):
        middle, ends = _spread(rates)
        label = f"{rule}: {RATE.estimate(middle, ends)}"
        axes.axvspan(*ends, color=colour, alpha=0.12, linewidth=0)
        axes.axvline(middle, color=colour, linewidth=1.2, dashes=dashes, label=label)
    axes.set_xscale("log")
    axes.set_xlim(test.rates[0], test.rates[-1])
    axes.xaxis.set_major_formatter(lambda rate, _: f"{rate:g}")
    axes.set_xlabel("learning rate")
    axes.set_ylabel("training loss (running mean)")
    figure.legend(loc="outside lower center", ncols=1, handlelength=4)
    return figure


def write_curve(test: RangeTest, subject: str, folder: pathlib.Path) -> list[pathlib.Path]:
    """Writes the figure as `folder/loss_curve.{svg,pdf}`; equal tests give equal bytes."""
    title = f"range test: {subject}"
    return write_figure(lambda: loss_curve(test), folder, "loss_curve", title, CAPTION)


def _found(test: RangeTest) -> dict[str, np.ndarray]:
    """What each rule that says anything suggests, seeds without a suggestion left out."""
    kept = {rule: rates[np.isfinite(rates)] for rule, rates in test.suggestions().items()}
    return {rule: rates for rule, rates in kept.items() if len(rates)}


def _spread(rates: np.ndarray) -> tuple[float, tuple[float, float]]:
    """The median, and the lowest and highest."""
    return float(np.median(rates)), (float(rates.min()), float(rates.max()))
