"""What may be turned by `--set`, and what is said of the arms that keep their own value."""

import pytest

from fishjax.config import Config
from fishjax.fields import UsageError
from fishjax.settings import override
from fishjax.sweep import Arm, Tuned
from fishjax.turned import check_turned, keeping

ARMS = (
    Arm("plain", {"hyper.lr": Tuned("plain")}),
    Arm("still", {"hyper.lr": Tuned("still"), "hyper.momentum": 0.0}),
    Arm("leaky", {"hyper.lr": Tuned("plain"), "model.activation": "leaky_relu"}),
    Arm("leakier", {"hyper.lr": Tuned("plain"), "model.activation": "leaky_relu"}),
)
RATES = {"plain": 0.1, "still": 0.1}


def turn(arms=ARMS, **settings):
    settings = {key.replace("_", ".", 1): value for key, value in settings.items()}
    declared, turned = (
        {arm.name: arm.config(base, RATES) for arm in arms}
        for base in (Config(), override(Config(), settings))
    )
    check_turned("tiny", arms, settings, turned, declared)


def test_what_changes_every_arm_alike_is_turned():
    """Two arms that were one run before may stay one."""
    turn(hyper_weight_decay=0.1)
    turn(hyper_momentum=0.5)


@pytest.mark.parametrize(
    ("arms", "settings", "message"),
    [
        (ARMS, {"hyper_lr": 0.1}, "hyper.lr has no effect: every arm of tiny sets it"),
        (ARMS, {"model_groups": 2}, "no effect: it needs model.norm=group"),
        (
            (ARMS[0], Arm("focal", {"loss.kind": "focal", "loss.focal_gamma": 3.0})),
            {"loss_focal_gamma": 2.5},
            "no effect: every arm of tiny that does not set it needs loss.kind=focal",
        ),
        (ARMS, {"hyper_momentum": 0.0}, "hyper.momentum makes the arms 'plain' and 'still' of"),
        ((Arm("odd", {"model.groups": 2}),), {}, "arm 'odd' of tiny sets model.groups, which"),
    ],
)
def test_what_does_nothing_or_makes_two_arms_one_is_refused(arms, settings, message):
    with pytest.raises(UsageError, match=message):
        turn(arms, **settings)


def test_an_arm_that_borrows_its_twins_rate_may_become_it():
    borrower = Arm("other order", {"hyper.lr": Tuned("plain"), "optim.order": 1})
    with pytest.raises(UsageError, match=r"optim\.order makes the arms 'plain' and 'other order'"):
        turn((ARMS[0], borrower), optim_order=1)


def test_arms_whose_rates_are_tuned_for_different_ones_are_different_runs():
    """Though the first rate tried, at which their configurations are compared, is one."""
    borrower = Arm("borrower", {"hyper.lr": Tuned("still"), "hyper.momentum": 0.5})
    turn((ARMS[0], borrower), hyper_momentum=0.5)


def test_the_arms_that_keep_their_own_value_are_named():
    assert list(keeping(ARMS, ["hyper.momentum", "hyper.weight_decay"])) == [
        "hyper.momentum stays as it is in 1 of 4 arms: still"
    ]
