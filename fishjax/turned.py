"""What `--set` does to a study's arms: refused where it does nothing, or makes two of them one."""

import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence

from fishjax.config import Config
from fishjax.effects import missing
from fishjax.fields import UsageError
from fishjax.sweep import Arm, Tuned


def check_turned(
    study: str,
    arms: Sequence[Arm],
    settings: Collection[str],
    turned: Mapping[str, Config],
    declared: Mapping[str, Config],
) -> None:
    """Raises UsageError for a setting that every arm overrides or cannot use, for an arm of
    `study` that changes what it cannot use, and for two arms that only the settings make alike.

    turned, declared: each arm's configuration with and without the settings.
    """
    for key in settings:
        needs = [missing(turned[arm.name], key) for arm in arms if key not in arm.changes]
        if not needs:
            raise UsageError(f"--set {key} has no effect: every arm of {study} sets it")
        if all(needs):
            others = len(needs) < len(arms)
            rest = f"every arm of {study} that does not set it needs" if others else "it needs"
            raise UsageError(f"--set {key} has no effect: {rest} {needs[0]}")
    for arm in arms:
        for key in arm.changes:
            if needed := missing(turned[arm.name], key):
                raise UsageError(f"arm {arm.name!r} of {study} sets {key}, which needs {needed}")
    for one, other in itertools.combinations(arms, 2):
        if _alike(one, other, turned) and not _alike(one, other, declared):
            raise UsageError(
                f"--set {' '.join(settings)} makes the arms {one.name!r} and {other.name!r} of "
                f"{study} the same run"
            )


def keeping(arms: Sequence[Arm], settings: Collection[str]) -> Iterator[str]:
    """For each setting which arms have one of their own, and keep it."""
    for key in settings:
        if names := [arm.name for arm in arms if key in arm.changes]:
            yield f"{key} stays as it is in {len(names)} of {len(arms)} arms: {'; '.join(names)}"


def _alike(one: Arm, other: Arm, configs: Mapping[str, Config]) -> bool:
    """Whether both are the same run, at one rate or each at that tuned for itself."""
    if configs[one.name] != configs[other.name]:
        return False
    rates = [arm.changes.get("hyper.lr") for arm in (one, other)]
    return rates[0] == rates[1] or rates == [Tuned(one.name), Tuned(other.name)]
