"""A baseline: tasks as the diagonal of a probe network's Fisher matrix, after Task2Vec (Achille et al. 2019).

Task2Vec fixes a network, fits a head to each task, and describes the task by the diagonal Fisher information
of the network's weights, averaged over each filter. Its probe is trained on ImageNet; ours is the body of the
study's U-Net, trained on all tasks of the study at once with a head for each, since no other weights can be
counted on. With squared error the output is Gaussian, so its Fisher matrix is the mean of J'J, J the Jacobian
of the output, and is drawn as the squared gradient of the output against white noise.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from taco_probe.taco.transfer.material import Examples, Material
from taco_probe.taco.transfer.measure import Budget, as_batch, drawn, new, stream
from taco_probe.taco.transfer.unet import UNet

INSTANCES = 32  # of a task
DRAWS = 24  # of the noise


def fisher(material: Material, seed: int, budget: Budget, device: str = "cpu") -> NDArray[np.float64]:
    """(T, filters) a mean squared gradient for each filter of the body's convolutions."""
    net, heads = _probe(material, seed, budget, device)
    found = []
    for task in material.tasks:
        net.head = heads[task]
        few = drawn(material.source[task], INSTANCES, stream(seed, "fisher", task))
        found.append(diagonal(net, few, seed, DRAWS))
    return np.stack(found)


def diagonal(net: UNet, examples: Examples, seed: int, draws: int) -> NDArray[np.float64]:
    """(filters,) the diagonal Fisher information of an instance, averaged over each filter of the body. Noise
    is independent between instances, so the squared gradient of their sum is in the mean the sum of their
    squares: a draw costs one pass backward."""
    device = next(net.parameters()).device
    weights = [m.weight for name, m in net.named_modules() if isinstance(m, nn.Conv2d) and name != "head"]
    noise = torch.Generator().manual_seed(seed)
    outputs = net(as_batch(examples.inputs, device))
    total = [torch.zeros(len(weight), dtype=torch.float64) for weight in weights]
    for _ in range(draws):
        white = torch.randn(outputs.shape, generator=noise).to(device)
        gradients = torch.autograd.grad((outputs * white).sum(), weights, retain_graph=True)
        for mean, gradient in zip(total, gradients, strict=True):
            mean += (gradient.double() ** 2).mean(dim=(1, 2, 3)).cpu() / (draws * len(examples))
    return np.concatenate([mean.numpy() for mean in total])


def distance(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """(T, T): Task2Vec's symmetric distance, of cosine between F_a / (F_a + F_b) and F_b / (F_a + F_b)."""
    tasks = len(vectors)
    found = np.zeros((tasks, tasks))
    for a in range(tasks):
        for b in range(a):
            both = np.maximum(vectors[a] + vectors[b], 1e-30)
            x, y = vectors[a] / both, vectors[b] / both
            found[a, b] = found[b, a] = 1 - float(x @ y / max(np.linalg.norm(x) * np.linalg.norm(y), 1e-30))
    return found


def _probe(material: Material, seed: int, budget: Budget, device: str) -> tuple[UNet, dict[str, nn.Conv2d]]:
    """A body trained on all tasks at once, one instance of each a step, and a head for each."""
    net = new(seed, device)
    heads = {}
    for task in material.tasks:
        heads[task] = nn.Conv2d(net.head.in_channels, net.head.out_channels, 1).to(device)
        heads[task].load_state_dict(net.head.state_dict())
    every = [*net.parameters(), *(p for head in heads.values() for p in head.parameters())]
    optimizer = torch.optim.AdamW(every, lr=budget.learning_rate, weight_decay=1e-4)
    rng = stream(seed, "probe")
    for step in range(budget.pretrain_steps):
        for group in optimizer.param_groups:
            group["lr"] = budget.learning_rate * 0.5 * (1 + math.cos(math.pi * step / budget.pretrain_steps))
        at = {
            task: torch.from_numpy(rng.integers(len(material.source[task]), size=1))
            for task in material.tasks
        }
        inputs = torch.cat([material.source[task].inputs[at[task]] for task in material.tasks])
        features = net.body(as_batch(inputs, device))
        loss = torch.zeros((), device=device)
        for number, task in enumerate(material.tasks):
            made = functional.pixel_shuffle(heads[task](features[number : number + 1]), 2)
            loss = loss + functional.mse_loss(made, as_batch(material.source[task].targets[at[task]], device))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return net, heads
