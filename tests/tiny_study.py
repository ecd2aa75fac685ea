"""A study of seconds, for the tests of whatever runs, resumes, shards or stops one.

python -m tests.tiny_study [OPTION ...]
"""

from fishjax.command import main
from fishjax.config import Config
from fishjax.evidence.plan import Claim, Contrast, Placebo, Plan, Reading, Scenario, Target
from fishjax.settings import override
from fishjax.study import Scale, Study
from fishjax.sweep import Arm, Tuned, Tuning
from tests.runs import TINY

DATA = "reef:classes=3,train=96,test=24"
ACCURACY = Reading("test_accuracy")
GAIN = Reading("test_accuracy", since=2)
STUDY = Study(
    name="tiny",
    base=override(Config(), {**TINY, "data.image_size": 16}),
    arms=(
        Arm("plain", {"hyper.lr": Tuned("plain")}),
        Arm("wild", {"hyper.lr": 1e30}),
        Arm("other", {"hyper.lr": Tuned("plain", times=2.0), "optim.order": 1}),
    ),
    plan=Plan(
        Scenario("S0", "it learns", (Target("gain", "a gain", GAIN, "plain", low=-1.0),)),
        (Claim("0.1", "order", "directional", Contrast(ACCURACY, "other", "plain", 1, 0.02)),),
        (Placebo("wild", "diverges", Contrast(ACCURACY, "wild", "plain", 1, 0.9)),),
    ),
    scales={"laptop": Scale((0, 1), Tuning(("plain",), (0.01, 0.05), (1000,)))},
)

if __name__ == "__main__":
    main(STUDY)
