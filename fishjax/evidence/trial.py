"""A claim with everything that was measured for it."""

from collections.abc import Sequence
from dataclasses import dataclass

import xarray as xr

from fishjax.evidence.contrast import Requirement
from fishjax.evidence.effect import measure, measure_together
from fishjax.evidence.finding import Finding
from fishjax.evidence.plan import Claim


@dataclass(frozen=True)
class Trial:
    """outcomes: one, or of an existential claim one for each of its contrasts.

    mechanisms: as many, or none.
    """

    claim: Claim
    outcomes: tuple[Finding, ...]
    mechanisms: tuple[Finding, ...]
    also: tuple[Finding, ...]
    premise: tuple[Finding, ...]

    @property
    def found(self) -> int:
        """Which of the outcome's contrasts the claim is read at.

        The most certain of those that are met, else of those in the claim's direction; where there
        are none, the one whose interval reaches furthest that way.
        """
        return min(range(len(self.outcomes)), key=self._uncertainty)

    @property
    def outcome(self) -> Finding:
        """The outcome that the claim is read at."""
        return self.outcomes[self.found]

    @property
    def mechanism(self) -> Finding | None:
        """The mechanism there."""
        return self.mechanisms[self.found] if self.mechanisms else None

    @property
    def p(self) -> float:
        """Of the whole claim: the largest of all that must show."""
        required = [self.outcome, *self.also, *((self.mechanism,) if self.mechanism else ())]
        return max(finding.effect.p for finding in required)

    @property
    def seeds(self) -> int:
        """How many pairs there are."""
        return len(self.outcome.effect.pairs.seeds)

    def _uncertainty(self, index: int) -> tuple[bool, bool, float, float]:
        outcome = self.outcomes[index]
        effect = outcome.effect
        low, high = effect.claimed
        if effect.benefit > 0:
            return not outcome.met, False, effect.p, -low
        return True, True, -high, effect.p


def try_claim(claim: Claim, alpha: float, results: xr.Dataset) -> Trial:
    """Measures all that a claim names, with intervals at 1 - alpha.

    The contrasts of an existential claim are corrected among themselves, and so are its
    mechanisms, since the choice of one is the data's. Raises UsageError where the claim asks for
    what the results do not have.
    """
    expects = "stays" if claim.kind in ("no_effect", "equivalence") else "moves"
    outcomes = [Requirement(contrast, expects) for contrast in claim.outcomes]
    return Trial(
        claim,
        _together(outcomes, alpha, results),
        _together(claim.mechanisms, alpha, results),
        _alone(claim.also, alpha, results),
        _alone(claim.premise, alpha, results),
    )


def _together(
    requirements: Sequence[Requirement], alpha: float, results: xr.Dataset
) -> tuple[Finding, ...]:
    if len(requirements) < 2:
        return _alone(requirements, alpha, results)
    return tuple(map(Finding, requirements, measure_together(results, requirements, alpha)))


def _alone(
    requirements: Sequence[Requirement], alpha: float, results: xr.Dataset
) -> tuple[Finding, ...]:
    return tuple(Finding(each, measure(results, each, alpha)) for each in requirements)
