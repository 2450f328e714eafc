"""The published step in plain PyTorch: autograd, dense covariance of the float codes, Adam."""

import torch
from serve import serve


class SignS(torch.autograd.Function):
    """The published `sign_s`: a step forward, the slope of a logistic function taken at the gradient backward."""

    @staticmethod
    def forward(ctx, z):
        return (z > 0).float()

    @staticmethod
    def backward(ctx, g):
        return g * (1 - g)


def losses(x, W_enc, b_enc, W_dec, b_dec, entropy_weight, covariance_weight):
    h = SignS.apply(x @ W_enc + b_enc)
    y = h @ W_dec + b_dec
    mse = torch.nn.functional.mse_loss(y, x)
    p = h.mean(dim=0)
    entropy = (-p * torch.log2(p + 1e-10) - (1 - p) * torch.log2(1 - p + 1e-10)).sum()
    centred = h - p
    covariance = centred.T @ centred / (h.shape[0] - 1)
    off_diagonal = covariance - torch.diag(torch.diag(covariance))
    dependence = off_diagonal.abs().sum()
    return mse + entropy_weight * entropy + covariance_weight * dependence, mse, entropy, dependence


class Published:
    def __init__(self, fixture):
        self.fixture = fixture
        self.parameters = [tensor.clone().requires_grad_() for tensor in fixture.parameters]
        self.adam = torch.optim.Adam(self.parameters, lr=fixture.learning_rate)

    def losses_and_gradients(self):
        fixture = self.fixture
        self.adam.zero_grad()
        each = losses(fixture.x, *self.parameters, fixture.entropy_weight, fixture.covariance_weight)
        each[0].backward()
        return [value.detach() for value in each], [parameter.grad for parameter in self.parameters]

    def step(self):
        self.losses_and_gradients()
        self.adam.step()


if __name__ == "__main__":
    serve("PyTorch, published step", Published)
