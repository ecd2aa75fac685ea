"""A requirement with what was measured for it: met, refuted or open."""

from dataclasses import dataclass
from typing import Any, Literal

from fishjax.evidence.contrast import Requirement
from fishjax.evidence.effect import Effect, plain

MISSED = {
    "refuted": {
        "moves": "did not move as expected",
        "stays": "did not stay within delta",
        "exceeds": "did not exceed delta",
    },
    "open": {
        "moves": "is not shown to move",
        "stays": "is not shown to stay within delta",
        "exceeds": "is not shown to exceed delta",
    },
}
"""What became of a requirement that is not met, by how it stands."""
NEGLIGIBLE = "negligible: the interval lies inside +-delta"
OPPOSITE = "the effect is opposite to the claim"


@dataclass(frozen=True)
class Finding:
    requirement: Requirement
    effect: Effect

    @property
    def met(self) -> bool:
        """What was expected showed."""
        low, delta = self.effect.claimed[0], self.requirement.contrast.delta
        if self.requirement.expects == "moves":
            return low > 0 and not self.effect.negligible
        return self.effect.negligible if self.requirement.expects == "stays" else low > delta

    @property
    def refutation(self) -> str:
        """Why what was expected is out of the question; empty where it is not."""
        (low, high), delta = self.effect.claimed, self.requirement.contrast.delta
        if self.requirement.expects == "stays":
            return "an effect beyond delta" if low > delta or high < -delta else ""
        if self.effect.negligible:
            return NEGLIGIBLE
        if high < 0:
            return OPPOSITE
        short = self.requirement.expects == "exceeds" and high < delta
        return "the effect is short of delta" if short else ""

    @property
    def standing(self) -> Literal["met", "refuted", "open"]:
        """Which of the three it is."""
        return "met" if self.met else "refuted" if self.refutation else "open"

    @property
    def seeds_to_decide(self) -> int | None:
        """About how many seeds would meet or refute it; None where it is hopeless."""
        effect, delta = self.effect, self.requirement.contrast.delta
        within = abs(effect.estimate) < delta
        if self.requirement.expects == "moves":
            ways = [effect.seeds_to_exclude(0.0)]
            ways += [effect.seeds_to_exclude(-delta, delta)] if within else []
            return min((way for way in ways if way is not None), default=None)
        if self.requirement.expects == "stays" and within:
            return effect.seeds_to_exclude(-delta, delta)
        upwards = (
            effect.estimate > 0
            if self.requirement.expects == "stays"
            else (self.requirement.contrast.direction > 0)
        )
        return effect.seeds_to_exclude(delta if upwards else -delta)

    @property
    def missed(self) -> str:
        """`is not shown to move`; empty where what was expected showed."""
        if self.met:
            return ""
        if self.effect.pairs.missing:
            return "was not measured at every seed"
        return MISSED[self.standing][self.requirement.expects]

    @property
    def words(self) -> str:
        """`dead_share of relu is not shown to move`, or what came of it instead."""
        read = f"{self.effect.contrast.reading.label} of {plain(self.effect.contrast.arm)}"
        return " ".join(filter(None, (read, self.missed)))

    def as_json(self) -> dict[str, Any]:
        """The finding for summary.json; `moved` where what was expected showed."""
        return {
            **self.effect.as_json(),
            "expects": self.requirement.expects,
            "standing": self.standing,
            "moved": self.met,
        }
