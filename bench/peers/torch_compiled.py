"""The step by hand through `torch.compile`, Adam included: the compiler fuses what lies between the products. `--eager` leaves
the compiler out."""

import sys

import torch
from serve import DEVICE, serve
from torch_best import EPSILON, LN_2

BETAS, ADAM_EPSILON = (0.9, 0.999), 1e-8


def losses_and_gradients(x, W_enc, b_enc, W_dec, b_dec, entropy_weight, covariance_weight):
    n = len(x)
    h = (x @ W_enc + b_enc > 0).float()
    difference = h @ W_dec + b_dec - x
    mse = difference.square().mean()
    grad_y = difference * (2 / difference.numel())

    s = h.sum(0)
    p = s / n
    q = 1 - p
    log_p, log_q = torch.log2(p + EPSILON), torch.log2(q + EPSILON)
    entropy = -(p * log_p + q * log_q).sum()
    slope = log_q - log_p + (q / (q + EPSILON) - p / (p + EPSILON)) / LN_2

    # n (n - 1) Cov, exact in floats; its diagonal is n s - s^2, with sign 1 where the feature is neither off nor always on
    D = n * (h.T @ h) - s[:, None] * s
    varies = ((s > 0) & (s < n)).float()
    pairs = n * (n - 1)
    dependence = (D.abs().sum() - (s * (n - s)).sum()) / pairs
    through = h @ D.sign() - h * varies

    g = grad_y @ W_dec.T + slope * (entropy_weight / n)
    g = g + 2 * covariance_weight / pairs * (n * through - through.sum(0))
    g = g * (1 - g)
    losses = (mse + entropy_weight * entropy + covariance_weight * dependence, mse, entropy, dependence)
    return losses, (x.T @ g, g.sum(0), h.T @ grad_y, grad_y.sum(0))


def step(x, parameters, first, second, corrections, learning_rate, entropy_weight, covariance_weight):
    losses, gradients = losses_and_gradients(x, *parameters, entropy_weight, covariance_weight)
    for parameter, m, v, gradient in zip(parameters, first, second, gradients):
        m.lerp_(gradient, 1 - BETAS[0])
        v.mul_(BETAS[1]).addcmul_(gradient, gradient, value=1 - BETAS[1])
        root = v.sqrt() / corrections[1].sqrt() + ADAM_EPSILON
        parameter.sub_(learning_rate / corrections[0] * m / root)
    return losses


class Compiled:
    def __init__(self, fixture):
        self.fixture = fixture
        self.parameters = [tensor.clone() for tensor in fixture.parameters]
        self.first = [torch.zeros_like(tensor) for tensor in self.parameters]
        self.second = [torch.zeros_like(tensor) for tensor in self.parameters]
        self.steps = 0
        self.compiled_step = step if "--eager" in sys.argv else torch.compile(step)

    def losses_and_gradients(self):
        """Of the compiled step itself: its first moment is a tenth of the gradient. The step is then undone."""
        before = [tensor.clone() for tensor in self.parameters]
        losses = self.step()
        gradients = [m / (1 - BETAS[0]) for m in self.first]
        for tensor, old in zip(self.parameters, before):
            tensor.copy_(old)
        for moment in self.first + self.second:
            moment.zero_()
        self.steps = 0
        return losses, gradients

    @torch.no_grad()
    def step(self):
        fixture = self.fixture
        self.steps += 1
        # tensors, because numbers that change would be compiled in anew at every step
        corrections = [torch.tensor(1 - beta**self.steps, device=DEVICE) for beta in BETAS]
        weights = fixture.learning_rate, fixture.entropy_weight, fixture.covariance_weight
        return self.compiled_step(
            fixture.x, self.parameters, self.first, self.second, corrections, *weights
        )


if __name__ == "__main__":
    serve("PyTorch, eager" if "--eager" in sys.argv else "PyTorch, torch.compile", Compiled)
