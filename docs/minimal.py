"""An eigenvalue, a width and a slice of your model's loss landscape, in plain PyTorch.

What `landscape` measures, without what makes it fast, exact at any size, and careful about what can go wrong. Read it
to know what the numbers mean; `tests/house/test_minimal.py` checks that both agree. Run it: `python docs/minimal.py`
"""

import torch
from torch import nn
from torch.func import functional_call
from torch.nn.utils import parameters_to_vector

# The loss as a function of one vector w ---------------------------------------------------------------------------


def loss_function(model, mean_loss, inputs, targets):
    """The function w (P,) -> L(w), a scalar: the module with the entries of w in the places of its parameters."""
    shapes = {name: p.shape for name, p in model.named_parameters()}

    def loss(w):
        parts = torch.split(w, [shape.numel() for shape in shapes.values()])
        named = {name: part.view(shape) for (name, shape), part in zip(shapes.items(), parts, strict=True)}
        return mean_loss(functional_call(model, named, (inputs,)), targets)

    return loss


# The largest eigenvalue of the Hessian, and its eigenvector --------------------------------------------------------


def hessian_product(loss, w, v):
    """H v = gradient of (gradient . v): two backward passes, and H is never written out."""
    u = w.detach().requires_grad_(True)
    (gradient,) = torch.autograd.grad(loss(u), u, create_graph=True)
    return torch.autograd.grad(gradient @ v, u)[0]


def top_eigenpair(loss, w, steps=60, seed=0):
    """lambda, u and the residual |H u - lambda u|, by Lanczos: the best u among combinations of v, Hv, HHv, ..."""
    v = torch.randn(len(w), generator=torch.Generator().manual_seed(seed), dtype=w.dtype)
    basis, images = [], []
    for _ in range(min(steps, len(w))):
        for _ in range(2):  # once is not enough: rounding brings old directions back
            for b in basis:
                v = v - (b @ v) * b
        if v.norm() < 1e-10:  # all that can be reached from the start is there
            break
        basis.append(v / v.norm())
        images.append(hessian_product(loss, w, basis[-1]))
        v = images[-1]
    V, HV = torch.stack(basis), torch.stack(images)
    small = V @ HV.T  # H restricted to the basis
    values, vectors = torch.linalg.eigh((small + small.T) / 2)
    u = V.T @ vectors[:, -1]
    residual = (HV.T @ vectors[:, -1] - values[-1] * u).norm()  # H has an eigenvalue within this distance
    return values[-1].item(), u, residual.item()


# The width of the valley along a direction -------------------------------------------------------------------------


def root(f, low, high):
    """The place between low and high where f changes its sign from - to +, by halving."""
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (low, middle) if f(middle) > 0 else (middle, high)
    return (low + high) / 2


def half_widths(loss, w, u, rise):
    """How far the walls are from the floor of the line w + t u, where the loss has risen by `rise`: below, above."""

    def along(t):
        return loss(w + t * u).item()

    def slope(t):
        s = torch.tensor(t, dtype=w.dtype, requires_grad=True)
        return torch.autograd.grad(loss(w + s * u), s)[0].item()

    reach = 1e-3
    while slope(-reach) > 0 or slope(reach) < 0:  # downhill on both sides of the floor
        reach *= 2
    floor = root(slope, -reach, reach)
    found = []
    for side in (-1, 1):
        far = 1e-6
        while along(floor + side * far) < along(floor) + rise:
            far *= 2
        found.append(root(lambda s, side=side: along(floor + side * s) - along(floor) - rise, 0.0, far))
    return found


# A slice ------------------------------------------------------------------------------------------------------------


def plane(loss, w, d1, d2, alpha, beta):
    """L(w + alpha d1 + beta d2) on a grid, (alpha, beta)."""
    with torch.no_grad():
        return torch.stack([torch.stack([loss(w + a * d1 + b * d2) for b in beta]) for a in alpha])


def example():
    """A small network that has learned a little, its loss and its parameters."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(61, 3, generator=generator, dtype=torch.float64)
    targets = torch.sin(inputs.sum(1, keepdim=True))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1)).double()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(300):
        optimizer.zero_grad()
        nn.functional.mse_loss(model(inputs), targets).backward()
        optimizer.step()
    return model, inputs, targets, parameters_to_vector(model.parameters()).detach()


if __name__ == "__main__":
    model, inputs, targets, w = example()
    loss = loss_function(model, nn.functional.mse_loss, inputs, targets)
    sharpness, u, residual = top_eigenpair(loss, w)
    print(f"largest eigenvalue of the Hessian: {sharpness:.6f}, residual {residual:.0e}")
    below, above = half_widths(loss, w, u, rise=0.01)
    print(f"half-widths where the loss has risen by 0.01: {below:.4f} and {above:.4f}")
    print(f"of a parabola with this curvature: {(2 * 0.01 / sharpness) ** 0.5:.4f}")
    axis = torch.linspace(-1, 1, 5, dtype=w.dtype)
    d2 = torch.randn(len(w), generator=torch.Generator().manual_seed(1), dtype=w.dtype)
    print("the loss on a plane:", *plane(loss, w, u, d2 / d2.norm(), axis, axis).numpy().round(3).tolist(), sep="\n  ")
