"""The process of a PyTorch peer: `python -m experiments.benchmark.torch_worker --peer NAME ...`.

Its interpreter needs PyTorch and NumPy, no fishjax and no JAX.
"""

import platform

import torch

from experiments.benchmark.torch_net import DEVICE
from experiments.benchmark.torch_peers import PEERS, layers, peaks, threads
from experiments.benchmark.worker import serve


def main() -> None:
    torch.set_flush_denormal(True)
    torch.set_num_threads(threads())
    torch.backends.cudnn.allow_tf32 = False
    serve(PEERS, _about, {"peaks": peaks, "layers": layers})


def _about() -> dict:
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if DEVICE.type == "cuda" else "cpu",
    }


if __name__ == "__main__":
    main()
