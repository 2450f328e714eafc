"""The step by hand in PyTorch, as fast as we could make it: no autograd, preallocated outputs, fused Adam.

The codes' covariance is counted, not centred: n (n - 1) Cov = n h'h - s s' is exact in floats. It is taken in blocks of
rows, so that a block stays in the cache between its product, its sum and its signs and no d_sae x d_sae matrix exists;
only blocks on and right of the diagonal are made. `--int8` makes the two covariance products in 8-bit integers instead,
which is exact too and much faster where the CPU has dot products of bytes.
"""

import sys

import torch
from serve import milliseconds, serve

LN_2 = 0.6931471805599453
EPSILON = 1e-10


class FloatPairs:
    """|D| summed and h sign(D), from float products over the upper triangle. D = n h'h - s s', diagonal 0."""

    def __init__(self, n, d_sae, block):
        self.block = block
        self.counts = torch.empty(block * d_sae)
        self.through = torch.empty(n, d_sae)

    def __call__(self, h, s):
        (n, d_sae), block = h.shape, self.block
        through = self.through.zero_()
        total = 0.0
        for at in range(0, d_sae, block):
            end = min(at + block, d_sae)
            rows = h[:, at:end]
            D = self.counts[: (end - at) * (d_sae - at)].view(end - at, d_sae - at)
            torch.mm(rows.t(), h[:, at:], out=D)
            D.addr_(s[at:end], s[at:], beta=n, alpha=-1)
            D.diagonal().zero_()
            square, right = D[:, : end - at], D[:, end - at :]
            total += square.abs().sum(dtype=torch.float64) + 2 * right.abs().sum(dtype=torch.float64)
            D.sign_()
            through[:, at:].addmm_(rows, D)
            if end < d_sae:
                through[:, at:end].addmm_(h[:, end:], right.t())
        return total, through


class DensePairs:
    """The same without blocks: one square matrix, both halves of it."""

    def __init__(self, n, d_sae):
        self.D = torch.empty(d_sae, d_sae)
        self.signs = torch.empty(d_sae, d_sae)
        self.through = torch.empty(n, d_sae)

    def __call__(self, h, s):
        D = torch.mm(h.t(), h, out=self.D)
        torch.addr(D, s, s, beta=len(h), alpha=-1, out=D)
        D.diagonal().zero_()
        torch.sign(D, out=self.signs)
        total = D.abs_().sum(dtype=torch.float64)
        return total, torch.mm(h, self.signs, out=self.through)


class BytePairs:
    """The same with products of 8-bit integers, which PyTorch has for inference; counts come as 32-bit integers."""

    def __init__(self, n, d_sae, block):
        self.block = block
        self.counts = torch.empty(block, d_sae)
        self.signs = torch.empty(d_sae, d_sae, dtype=torch.int8)

    def __call__(self, h, s):
        (n, d_sae), block = h.shape, self.block
        bits = h.to(torch.int8)
        columns = bits.t().contiguous()
        total = 0.0
        for at in range(0, d_sae, block):
            end = min(at + block, d_sae)
            D = self.counts[: end - at]
            D.copy_(torch._int_mm(columns[at:end], bits))
            D.addr_(s[at:end], s, beta=n, alpha=-1)
            D.diagonal(at).zero_()
            self.signs[at:end] = D.sign()
            total += D.abs_().sum(dtype=torch.float64)
        return total, torch._int_mm(bits, self.signs).float()


class Best:
    def __init__(self, fixture, pairs):
        self.x = fixture.x
        self.weights = fixture.entropy_weight, fixture.covariance_weight
        self.parameters = [tensor.clone() for tensor in fixture.parameters]
        for parameter in self.parameters:
            parameter.grad = torch.empty_like(parameter)
        self.adam = torch.optim.Adam(self.parameters, lr=fixture.learning_rate, fused=True)
        (self.n, self.d_in), self.d_sae = self.x.shape, self.parameters[0].shape[1]
        self.pairs = pairs
        self.z = torch.empty(self.n, self.d_sae)
        self.y = torch.empty(self.n, self.d_in)
        self.grad_h = torch.empty(self.n, self.d_sae)

    @torch.no_grad()
    def losses_and_gradients(self):
        W_enc, b_enc, W_dec, b_dec = self.parameters
        x, n = self.x, self.n
        entropy_weight, covariance_weight = self.weights

        h = torch.addmm(b_enc, x, W_enc, out=self.z).gt_(0)
        grad_y = torch.addmm(b_dec, h, W_dec, out=self.y).sub_(x)
        mse = torch.linalg.vector_norm(grad_y) ** 2 / grad_y.numel()
        grad_y.mul_(2 / grad_y.numel())
        torch.mm(h.t(), grad_y, out=W_dec.grad)
        torch.sum(grad_y, 0, out=b_dec.grad)

        s = h.sum(0)
        p = s / n
        q = 1 - p
        log_p, log_q = torch.log2(p + EPSILON), torch.log2(q + EPSILON)
        entropy = -(p * log_p + q * log_q).sum()
        slope = log_q - log_p + (q / (q + EPSILON) - p / (p + EPSILON)) / LN_2

        total, through = self.pairs(h, s)
        pairs = n * (n - 1)
        dependence = total / pairs

        g = torch.mm(grad_y, W_dec.t(), out=self.grad_h)
        g.add_(through, alpha=2 * covariance_weight / (n - 1))
        g.add_(slope * (entropy_weight / n) - through.sum(0) * (2 * covariance_weight / pairs))
        g.addcmul_(g, g, value=-1)  # g (1 - g), the published `sign_s`
        torch.mm(x.t(), g, out=W_enc.grad)
        torch.sum(g, 0, out=b_enc.grad)
        loss = mse + entropy_weight * entropy + covariance_weight * dependence
        losses = [value.item() for value in (loss, mse, entropy, dependence)]
        return losses, [parameter.grad for parameter in self.parameters]

    def step(self):
        self.losses_and_gradients()
        self.adam.step()


def fastest(fixture):
    """The way through the pairs that is fastest here and at this shape."""
    n, d_sae = len(fixture.x), fixture.parameters[0].shape[1]
    kind = BytePairs if "--int8" in sys.argv else FloatPairs
    ways = {f"blocks of {block}": kind(n, d_sae, min(block, d_sae)) for block in (256, 512, 1024)}
    if kind is FloatPairs and d_sae <= 4096:
        ways["one square"] = DensePairs(n, d_sae)
    x, W_enc, b_enc = fixture.x, *fixture.parameters[:2]
    h = torch.addmm(b_enc, x, W_enc).gt_(0)
    s = h.sum(0)
    times = {name: min(milliseconds(lambda: way(h, s)) for _ in range(3)) for name, way in ways.items()}
    chosen = min(times, key=times.get)
    best = Best(fixture, ways[chosen])
    best.variant = chosen
    best.times = times
    return best


if __name__ == "__main__":
    name = "PyTorch by hand, 8-bit covariance" if "--int8" in sys.argv else "PyTorch by hand"
    serve(name, fastest)
