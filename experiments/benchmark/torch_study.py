"""The dying-ReLU study as one would write it in PyTorch: loops, a table at the end.

    python -m experiments.benchmark.torch_study DATA.npz PLAN.json

DATA: images, labels, and of every seed its train, val and test indices. PLAN: arms, rates and
seeds. Needs PyTorch and NumPy only.
"""

import copy
import json
import math
import pathlib
import sys
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import torch
from torch import nn
from torch.nn import functional

Plan = Mapping[str, Any]


class Net(nn.Module):
    """Convolutions, max-pools while they fit, a global average pool, a dense layer, logits."""

    def __init__(self, plan: Plan, arm: Plan) -> None:
        super().__init__()
        self.slope, channels, side = arm["slope"], 3, plan["size"]
        self.convs, self.pooled = nn.ModuleList(), []
        affine: list[nn.Conv2d | nn.Linear] = []
        for width in plan["widths"]:
            affine.append(nn.Conv2d(channels, width, 3, padding=1))
            self.convs.append(affine[-1])
            self.pooled.append(side > 1)
            channels, side = width, side // 2
        self.dense = nn.Linear(channels, plan["dense"])
        self.dropout = nn.Dropout(arm["dropout"])
        self.head = nn.Linear(plan["dense"], plan["classes"])
        for layer in (*affine, self.dense, self.head):
            fan_in = layer.weight[0].numel()
            deviation = 0.01 if arm["init"] == "normal" else math.sqrt(2 / fan_in)
            nn.init.normal_(layer.weight, std=deviation)
            shift = 0.0 if layer is self.head else arm["bias_shift"]
            nn.init.constant_(cast(torch.Tensor, layer.bias), shift)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Logits, and the activations of the hidden layers."""
        seen = []
        for conv, pooled in zip(self.convs, self.pooled, strict=True):
            x = functional.leaky_relu(conv(x), self.slope)
            seen.append(x)
            x = functional.max_pool2d(x, 2) if pooled else x
        x = functional.leaky_relu(self.dense(x.mean((2, 3))), self.slope)
        seen.append(x)
        return self.head(self.dropout(x)), seen


class Trial:
    """One run: an arm at a seed and a rate."""

    def __init__(self, data: Any, plan: Plan, arm: Plan, seed: int, rate: float) -> None:
        torch.manual_seed(seed)
        self.plan, self.net = plan, Net(plan, arm)
        train, *others = (data[f"{part}_{seed}"] for part in ("train", "val", "test"))
        pixels = data["images"][train].reshape(-1, 3) / 255.0
        mean, deviation = pixels.mean(0), pixels.std(0)

        def prepared(index: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
            images = (data["images"][index] / 255.0 - mean) / deviation
            x = torch.from_numpy(images.astype(np.float32)).permute(0, 3, 1, 2)
            labels = torch.from_numpy(data["labels"][index].astype(np.int64))
            return x.contiguous(memory_format=torch.channels_last), labels

        self.parts = [prepared(index) for index in (train, *others)]
        kernels = [p for p in self.net.parameters() if p.ndim > 1]
        biases = [p for p in self.net.parameters() if p.ndim == 1]
        groups = [{"params": kernels, "weight_decay": arm["weight_decay"]}, {"params": biases}]
        self.rule = torch.optim.SGD(groups, rate, plan["momentum"])
        steps = plan["epochs"] * (len(train) // plan["batch"])
        self.schedule = torch.optim.lr_scheduler.CosineAnnealingLR(self.rule, steps)

    def train(self) -> list[dict[str, Any]]:
        """Evaluations before the first epoch and after every few."""
        found = [self.evaluate()]
        images, labels = self.parts[0]
        batch = self.plan["batch"]
        for epoch in range(1, self.plan["epochs"] + 1):
            self.net.train()
            order = torch.randperm(len(labels))
            for first in range(0, len(labels) - batch + 1, batch):
                index = order[first : first + batch]
                self.rule.zero_grad()
                functional.cross_entropy(self.net(images[index])[0], labels[index]).backward()
                self.rule.step()
                self.schedule.step()
            if epoch % self.plan["every"] == 0:
                found.append(self.evaluate())
        return found

    @torch.no_grad()
    def evaluate(self) -> dict[str, Any]:
        """Accuracy of the three parts; per hidden layer, the share of units silent on train."""
        self.net.eval()
        answers = [self.net(images) for images, _ in self.parts]
        right = [
            (logits.argmax(1) == labels).float().mean().item()
            for (logits, _), (_, labels) in zip(answers, self.parts, strict=True)
        ]
        active = [(h != 0).flatten(2).any(2) if h.ndim == 4 else h != 0 for h in answers[0][1]]
        dead = [(a.float().mean(0) < 0.01).float().mean().item() for a in active]
        return {"train": right[0], "val": right[1], "test": right[2], "dead": dead}


def tuned(data: Any, plan: Plan) -> dict[str, float]:
    """The rate of each tuned arm: the best mean validation accuracy at the end."""
    chosen = {}
    for name in plan["tuned"]:
        arm = next(arm for arm in plan["arms"] if arm["name"] == name)
        scores = {
            rate: np.mean(
                [
                    Trial(data, plan, arm, seed, rate).train()[-1]["val"]
                    for seed in plan["tuning_seeds"]
                ]
            )
            for rate in plan["rates"]
        }
        chosen[name] = max(scores, key=lambda rate: scores[rate])
    return chosen


def main(data_file: str, plan_file: str) -> None:
    torch.set_flush_denormal(True)
    data, plan = dict(np.load(data_file)), json.loads(pathlib.Path(plan_file).read_text())
    rates = tuned(data, plan)
    print("arm | rate | test accuracy | dead share by layer")
    for arm in plan["arms"]:
        rate = rates[arm["tuned"]] * arm["times"]
        trials = [Trial(data, plan, arm, seed, rate) for seed in plan["seeds"]]
        last = [copy.deepcopy(trial.train()[-1]) for trial in trials]
        dead = np.mean([found["dead"] for found in last], 0)
        accuracy = np.mean([found["test"] for found in last])
        print(arm["name"], f"{rate:g}", f"{accuracy:.3f}", np.round(dead, 3), sep=" | ")


if __name__ == "__main__":
    main(*sys.argv[1:])
