"""Writes tests/golden/training.json: losses, activations and optimiser steps as PyTorch computes them, in float64.

Run with the environment of requirements.txt: python tests/golden/training.py
"""

import json
from pathlib import Path

import torch

torch.manual_seed(0)
torch.set_default_dtype(torch.float64)


def numbers(tensor):
    return tensor.detach().flatten().tolist()


def with_gradient(function, x):
    x = x.clone().requires_grad_()
    y = function(x)
    dy = torch.randn_like(y) if y.ndim else torch.ones_like(y)
    y.backward(dy)
    return {"x": numbers(x), "shape": list(x.shape), "y": numbers(y), "dy": numbers(dy), "dx": numbers(x.grad)}


def losses():
    logits = torch.randn(4, 5) * 3
    targets = torch.tensor([0, 4, 2, 2])
    other = torch.rand(4, 5)
    functional = torch.nn.functional
    rows = {
        "cross_entropy": with_gradient(lambda x: functional.cross_entropy(x, targets), logits),
        "binary_cross_entropy": with_gradient(
            lambda x: functional.binary_cross_entropy_with_logits(x, other), logits
        ),
        "mean_squared_error": with_gradient(lambda x: functional.mse_loss(x, other), logits),
    }
    rows["cross_entropy"]["classes"] = targets.tolist()
    for name in ("binary_cross_entropy", "mean_squared_error"):
        rows[name]["targets"] = numbers(other)
    return rows


def activations():
    x = torch.randn(2, 3, 4) * 2
    functional = torch.nn.functional
    return {
        "relu": with_gradient(functional.relu, x),
        "leaky_relu": with_gradient(lambda v: functional.leaky_relu(v, 0.2), x),
        "sigmoid": with_gradient(torch.sigmoid, x),
        "tanh": with_gradient(torch.tanh, x),
        "softmax": with_gradient(lambda v: functional.softmax(v, 1), x),
    }


def optimisers():
    optim = torch.optim
    kinds = {
        "sgd": lambda p: optim.SGD(p, lr=0.1),
        "sgd_momentum_decay": lambda p: optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01),
        "sgd_nesterov": lambda p: optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
        "adam": lambda p: optim.Adam(p, lr=0.01),
        "adam_decay": lambda p: optim.Adam(p, lr=0.01, betas=(0.8, 0.99), eps=1e-6, weight_decay=0.1),
        "adamw": lambda p: optim.AdamW(p, lr=0.01, weight_decay=0.1),
    }
    start = torch.randn(2, 3)
    gradients = [torch.randn(2, 3) for _ in range(5)]
    rows = {"start": numbers(start), "gradients": [numbers(g) for g in gradients], "after": {}}
    for name, kind in kinds.items():
        weight = start.clone().requires_grad_()
        optimiser = kind([weight])
        steps = []
        for gradient in gradients:
            weight.grad = gradient.clone()
            optimiser.step()
            steps.append(numbers(weight))
        rows["after"][name] = steps
    return rows


if __name__ == "__main__":
    content = {
        "source": f"PyTorch {torch.__version__.split('+')[0]}",
        "losses": losses(),
        "activations": activations(),
        "optimisers": optimisers(),
    }
    target = Path(__file__).parent / "training.json"
    target.write_text(json.dumps(content, indent=1) + "\n")
