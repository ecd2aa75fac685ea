"""How names and numbers read: words, units and decimals shared by tables, figures and the terminal.

In `summary.json` accuracies, shares, and differences of them are fractions; here they become
per cent and points.
"""

import math
import re
import textwrap
import unicodedata
from dataclasses import dataclass, replace

MISSING = "–"
MINUS = "\N{MINUS SIGN}"
INFINITY = "\N{INFINITY}"
SUPERSCRIPT = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")
WORDS = {"train": "training", "val": "validation", "auc": "AUC"}
FRACTIONS = {"accuracy", "share", "revival", "histogram"}
THOUSANDTHS = {"auc", "loss"}
UNITS = {
    "blocked_gradient": "doublings",
    "blocking_slope": "doublings",
    "flow_slope": "decades per layer",
    "probe_flow_slope": "decades per layer",
    "probe_inner_flow_slope": "decades per layer",
    "noise_scale": "images",
    "effective_rank": "directions",
    "update_cosine": "",
    "epoch": "epochs",
    "gradient_cosine": "",
    "sharpness_ratio": "",
}

FURTHER = re.compile(r"\b((?:when|minus) )(\w+)")
"""Where a label names another metric."""
SCALED = re.compile(r"(?:^|,) in (doublings|logits|guesses)(?=,|$)")
INSTABILITY = re.compile(r"(?:^|,) instability( from epoch [^,]*)?(?=,|$)")

Interval = list[float | None] | tuple[float | None, float | None] | None


@dataclass(frozen=True)
class Quantity:
    """A kind of number.

    decimals: after the point; None gives three significant digits. least: what is smaller is
    written as less than it.
    """

    label: str
    unit: str = ""
    scale: float = 1.0
    decimals: int | None = None
    signed: bool = False
    least: float | None = None

    @property
    def heading(self) -> str:
        """The label with its unit, for a column or an axis."""
        return f"{self.label} ({self.unit})" if self.unit else self.label

    def text(self, value: float | None) -> str:
        """The number without its unit; a dash where it was not measured."""
        if value is None or math.isnan(value):
            return MISSING
        if math.isinf(value):
            return (MINUS if value < 0 else "") + INFINITY
        if self.least is not None and value < self.least:
            return f"<{self.least:g}"
        kind = "#.3g" if self.decimals is None else f".{self.decimals}f"
        scaled = value * self.scale
        digits = format(scaled, kind)
        if float(digits) == 0:
            return "0" if self.decimals is None else digits.lstrip("-")
        mantissa, _, exponent = digits.replace(".e", "e").removesuffix(".").partition("e")
        power = "×10" + str(int(exponent)).translate(SUPERSCRIPT) if exponent else ""
        sign = "+" if self.signed and scaled > 0 else ""
        return sign + mantissa.replace("-", MINUS) + power

    def estimate(self, value: float | None, interval: Interval = None) -> str:
        """`value [low, high]`; just `value` where there is no interval."""
        text = self.text(value)
        if interval is None or text == MISSING:
            return text
        low, high = bounds(interval)
        return f"{text} [{self.text(low)}, {self.text(high)}]"

    def with_unit(self, text: str) -> str:
        """`text`, a number of this kind, followed by its unit."""
        return f"{text} {self.unit}" if self.unit and text != MISSING else text


COUNT = Quantity("count", decimals=0)
P_VALUE = Quantity("p", decimals=3, least=0.001)


def bounds(interval: Interval) -> tuple[float | None, float | None]:
    """The ends of an interval, infinite where JSON has None; None where there is no interval."""
    if interval is None:
        return None, None
    low, high = interval
    return -math.inf if low is None else low, math.inf if high is None else high


def quantity(reading: str) -> Quantity:
    """The kind of number a metric is, by its name or the words in it, such as `val_accuracy`.

    A `gap` is a difference. It may be a reading's label, such as `flow, layer conv1`; one in
    doublings, logits or guesses has that for its unit.
    """
    metric, comma, rest = plain(reading).partition(",")
    tokens = metric.split("_")
    label = _words(metric) + comma + FURTHER.sub(lambda found: found[1] + _words(found[2]), rest)
    scaled = SCALED.search(rest)
    if scaled or INSTABILITY.search(rest):
        return Quantity(label, scaled[1] if scaled else "doublings", decimals=2)
    if metric in UNITS:
        return Quantity(label, UNITS[metric], decimals=2)
    signed = tokens[-1] == "gap"
    if FRACTIONS & set(tokens):
        return Quantity(label, "points" if signed else "%", 100.0, 1, signed)
    return Quantity(label, decimals=3 if THOUSANDTHS & set(tokens) else None, signed=signed)


def _words(metric: str) -> str:
    return " ".join(WORDS.get(token, token) for token in metric.split("_"))


def difference(reading: str) -> Quantity:
    """The kind of number that a difference of two such readings is; it shows its sign."""
    kind = quantity(reading)
    return replace(kind, unit="points" if kind.unit == "%" else kind.unit, signed=True)


def plain(text: str) -> str:
    """`text` on one line: control, format and lone surrogate characters become blanks."""
    kept = (" " if unicodedata.category(c)[0] in "CZ" else c for c in text)
    return " ".join("".join(kept).split())


def titled(arm: str, width: int) -> str:
    """The name in lines of at most `width`, broken at blanks and after underscores."""
    return textwrap.fill(short(arm, 2 * width).replace("_", "_ "), width).replace("_ ", "_")


def short(name: str, width: int) -> str:
    """The name as plain text, cut to `width`."""
    name = plain(name)
    return name if len(name) <= width else name[: width - 1] + "…"
