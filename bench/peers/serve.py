"""What steps of a peer written in PyTorch need: the fixture, the check and the commands.

`--cuda` works on the first CUDA device, and with `--tf32` lets its products round their factors.
"""

import resource
import sys

import torch
from lines import answer_lines, milliseconds
from safetensors import safe_open

CUDA = "--cuda" in sys.argv
DEVICE = "cuda" if CUDA else "cpu"
if CUDA:
    torch.backends.cuda.matmul.allow_tf32 = "--tf32" in sys.argv

TENSORS = ("W_enc", "b_enc", "W_dec", "b_dec")


class Fixture:
    """Hidden states, parameters, our gradients of the first step and the weights of the loss."""

    def __init__(self, path):
        with safe_open(path, framework="pt") as file:
            self.tensors = {name: file.get_tensor(name).to(DEVICE) for name in file.keys()}
            told = file.metadata()
        self.x = self.tensors["x"]
        self.parameters = [self.tensors[name] for name in TENSORS]
        self.entropy_weight = float(told["entropyWeight"])
        self.covariance_weight = float(told["covarianceWeight"])
        self.sparsity_weight = float(told.get("sparsityWeight", 0))
        self.learning_rate = float(told["learningRate"])

    def errors(self, gradients):
        """Frobenius norm of what differs from our gradient, as a share of the gradient's own."""
        ours = {name: self.tensors[f"grad.{name}"].double() for name in TENSORS}
        return {
            name: ((gradient.double() - ours[name]).norm() / ours[name].norm()).item()
            for name, gradient in zip(TENSORS, gradients)
        }


def milliseconds_each(run, count):
    """Of each of `count` runs; on a GPU of all together, shared out, because waiting for each would stall it."""
    if not CUDA:
        return [milliseconds(run) for _ in range(count)]
    torch.cuda.synchronize()

    def all_of_them():
        for _ in range(count):
            run()
        torch.cuda.synchronize()

    return [milliseconds(all_of_them) / count] * count


def serve(name, peer):
    """`peer(fixture)` gives an object with `losses_and_gradients()`, which changes no parameter, and `step()`; or with
    `prepare(rows)` and `encode(rows)`, of which only the second is timed. It may say with `variant` how it chose to work."""
    state = {}

    def command(cmd, **given):
        if cmd == "open":
            torch.set_num_threads(given["threads"])
            state["fixture"] = Fixture(given["fixture"])
            state["peer"] = peer(state["fixture"])
            variant = getattr(state["peer"], "variant", None)
            variant = variant or ("TF32" if "--tf32" in sys.argv else None)
            where = torch.cuda.get_device_name() if CUDA else None
            told = {"name": name, "version": f"PyTorch {torch.__version__}", "variant": variant, "device": where}
            return {"ok": True, **told}
        if cmd == "check":
            losses, gradients = state["peer"].losses_and_gradients()
            names = ("loss", "mse", "entropyBits", "covariance")
            figures = {key: float(value) for key, value in zip(names, losses)}
            return {**figures, "errors": state["fixture"].errors(gradients)}
        if cmd == "steps":
            return {"ms": milliseconds_each(state["peer"].step, given["count"]), "peakBytes": peak()}
        if cmd == "encode":
            state["peer"].prepare(given["rows"])
            return {"ms": [milliseconds(lambda: state["peer"].encode(given["rows"]))]}
        return {"error": f"no such command: {cmd}"}

    answer_lines(command)


def peak():
    """Largest memory of the process, or that it had on the GPU, in bytes (macOS counts in bytes, Linux in KiB)."""
    if CUDA:
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
