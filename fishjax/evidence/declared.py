"""The plan that a study's first start declared, as JSON and back, so that it can still be judged.

A value equal to its field's default is left out, so that plans stay equal when fields are added.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fishjax.evidence.contrast import Contrast, Crossing, Reading, Requirement, Weighted
from fishjax.evidence.plan import Claim, Placebo, Plan, Scenario, Target
from fishjax.fields import UsageError

KIND = "is"
PARTS: dict[str, type] = {
    part.__name__: part
    for part in (
        *(Plan, Claim, Scenario, Target, Placebo),
        *(Contrast, Crossing, Reading, Requirement, Weighted),
    )
}


@dataclass(frozen=True)
class Declaration:
    """A plan and the code that declared it: its git revision, and whether that was modified."""

    plan: Plan
    code: Mapping[str, Any]

    def as_json(self) -> dict[str, Any]:
        """What `from_json` reads."""
        return {"code": dict(self.code), "plan": as_json(self.plan)}

    @staticmethod
    def from_json(told: Mapping[str, Any]) -> "Declaration":
        """Raises UsageError where it was written by a version that this one cannot read."""
        try:
            return Declaration(_from_json(told["plan"]), told["code"])
        except (KeyError, TypeError, AttributeError, UsageError) as error:
            raise UsageError(
                f"the plan pinned by the first start cannot be read: {error}"
            ) from None

    def differs(self, plan: Plan) -> list[str]:
        """What another plan declares otherwise, leaves out or adds: `claim 3.1 (high rate)`."""
        ours, theirs = _named(self.plan), _named(plan)
        return [name for name in {**ours, **theirs} if ours.get(name) != theirs.get(name)]


def as_json(value: Any) -> Any:
    """A plan, or a part of one, as JSON."""
    if type(value).__name__ in PARTS:
        told = {
            field.name: as_json(getattr(value, field.name))
            for field in dataclasses.fields(value)
            if getattr(value, field.name) != field.default
        }
        return {KIND: type(value).__name__, **told}
    return [as_json(each) for each in value] if isinstance(value, tuple | list) else value


def _from_json(told: Any) -> Any:
    if isinstance(told, dict):
        rest = {name: _from_json(value) for name, value in told.items() if name != KIND}
        return PARTS[told[KIND]](**rest)
    return tuple(_from_json(each) for each in told) if isinstance(told, list) else told


def _named(plan: Plan) -> dict[str, Any]:
    """The parts of a plan that can change one by one, as JSON."""
    parts: dict[str, Any] = {f"scenario {plan.scenario.id}": plan.scenario} if plan.scenario else {}
    for claim in plan.claims:
        parts[f"claim {claim.id} ({claim.part})" if claim.part else f"claim {claim.id}"] = claim
    parts |= {f"placebo {placebo.id}": placebo for placebo in plan.placebos}
    return {name: as_json(part) for name, part in parts.items()}
