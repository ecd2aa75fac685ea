"""What should not matter, and what it did."""

from typing import Any

import xarray as xr

from fishjax.evidence import paired
from fishjax.evidence.contrast import Requirement
from fishjax.evidence.effect import caveats, measure
from fishjax.evidence.plan import Plan


def placebos(plan: Plan, results: xr.Dataset) -> list[dict[str, Any]]:
    """What each placebo did; one that is `beyond_delta` voids the study.

    "Beyond delta" is read as it is for a no-effect claim: the whole interval lies beyond +-delta.
    The mean alone would void a sound study whenever few seeds are noisy, which the claims' own
    intervals already allow for; a placebo is there to catch what they cannot, a bias. The
    interval is the single one at 95 %, not widened for m, as an alarm should rather ring.
    `within_delta` says that the study could exclude such a bias.
    """
    entries = []
    for placebo in plan.placebos:
        effect = measure(results, Requirement(placebo.contrast), paired.ERROR_RATE)
        delta = placebo.contrast.delta
        entries.append(
            {
                "id": placebo.id,
                "text": placebo.text,
                **effect.as_json(),
                "n": len(effect.pairs.seeds),
                "within_delta": effect.negligible,
                "beyond_delta": effect.low > delta or effect.high < -delta,
                "note": "; ".join(caveats("placebo", effect)),
            }
        )
    return entries
