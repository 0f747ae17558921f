"""Test functions of the field on [0, 1]^d, smaller is better, each with its minimum.

After Surjanovic and Bingham's "Virtual library of simulation experiments" and Jamil and Yang (2013, "A literature
survey of benchmark functions"); `moved` and `rotated` keep a minimum from lying where a method starts.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Function = Callable[[Array], float]

_ALPHA = np.array([1.0, 1.2, 3.0, 3.2])
_A = np.array(
    [[10, 3, 17, 3.5, 1.7, 8], [0.05, 10, 17, 0.1, 8, 14], [3, 3.5, 1.7, 10, 17, 8], [17, 8, 0.05, 10, 0.1, 14]]
)
_P = 1e-4 * np.array(
    [
        [1312, 1696, 5569, 124, 8283, 5886],
        [2329, 4135, 8307, 3736, 1004, 9991],
        [2348, 1451, 3522, 2883, 3047, 6650],
        [4047, 8828, 8732, 5743, 1091, 381],
    ]
)


def hartmann6(u: Array) -> float:
    """Six dimensions, six local minima; its minimum is -3.32237."""
    return -float(_ALPHA @ np.exp(-(_A * (u - _P) ** 2).sum(1)))


def ackley(u: Array) -> float:
    """A needle in a rippled plain on [-32.768, 32.768]^d; its minimum 0 lies in the middle."""
    x = (2 * u - 1) * 32.768
    return float(-20 * np.exp(-0.2 * np.sqrt((x**2).mean())) - np.exp(np.cos(2 * np.pi * x).mean()) + 20 + np.e)


def levy(u: Array) -> float:
    """Ripples in a bowl on [-10, 10]^d; its minimum 0 lies at 1."""
    w = 1 + ((20 * u - 10) - 1) / 4
    inner = ((w[:-1] - 1) ** 2 * (1 + 10 * np.sin(np.pi * w[:-1] + 1) ** 2)).sum()
    return float(np.sin(np.pi * w[0]) ** 2 + inner + (w[-1] - 1) ** 2 * (1 + np.sin(2 * np.pi * w[-1]) ** 2))


def rosenbrock(u: Array) -> float:
    """A bent valley on [-2, 2]^d; its minimum 0 lies at 1."""
    x = 4 * u - 2
    return float((100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum())


def branin(u: Array) -> float:
    """Two dimensions, three global minima of 0.397887."""
    x, y = 15 * u[0] - 5, 15 * u[1]
    return float(
        (y - 5.1 / (4 * np.pi**2) * x**2 + 5 / np.pi * x - 6) ** 2 + 10 * (1 - 1 / (8 * np.pi)) * np.cos(x) + 10
    )


def michalewicz(u: Array) -> float:
    """Steep ridges on [0, π]^d; its minimum in 5 dimensions is -4.687658."""
    x = np.pi * u
    return -float((np.sin(x) * np.sin(np.arange(1, len(x) + 1) * x**2 / np.pi) ** 20).sum())


def rastrigin(u: Array) -> float:
    """Many regular local minima on [-5.12, 5.12]^d; its minimum 0 lies in the middle."""
    x = (2 * u - 1) * 5.12
    return float(10 * len(x) + (x**2 - 10 * np.cos(2 * np.pi * x)).sum())


def griewank(u: Array) -> float:
    """Fine ripples in a wide bowl on [-100, 100]^d; its minimum 0 lies in the middle."""
    x = (2 * u - 1) * 100
    return float((x**2).sum() / 4000 - np.prod(np.cos(x / np.sqrt(np.arange(1, len(x) + 1)))) + 1)


def styblinski_tang(u: Array) -> float:
    """A separable double well on [-5, 5]^d; its minimum is -39.16617 d."""
    x = 10 * u - 5
    return float(0.5 * (x**4 - 16 * x**2 + 5 * x).sum())


def ellipsoid(u: Array) -> float:
    """A bowl of condition number 1000; its minimum 0 lies in the middle."""
    scale = 1000 ** (np.arange(len(u)) / max(len(u) - 1, 1))
    return float((scale * (2 * u - 1) ** 2).sum())


def steps(u: Array) -> float:
    """A bowl of plateaus, ten steps to each side; its minimum 0 is a plateau in the middle."""
    return float((np.floor(np.abs(2 * u - 1) * 10 + 0.25) ** 2).sum())


def needle(u: Array) -> float:
    """A narrow ridge along a diagonal, rising to one end; its minimum 0 lies at 0.8."""
    along, across = float(u.mean()) - 0.8, u - u.mean()
    return float(1 - np.exp(-((along / 0.25) ** 2)) * (0.3 + 0.7 * np.exp(-(across @ across) / 0.02)))


def moved(function: Function, d: int, seed: int, far: float = 0.25) -> Function:
    """The function with its middle moved by up to `far` in each dimension (mirrored at the edges)."""
    shift = np.random.default_rng(seed).uniform(-far, far, size=d)
    return lambda u: function(1 - np.abs(1 - np.mod(u - shift, 2.0)))


def rotated(function: Function, d: int, seed: int) -> Function:
    """The function turned about its middle, and shrunk so that nothing leaves the cube."""
    q, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(d, d)))
    return lambda u: function(np.clip(0.5 + (q @ (u - 0.5)), 0.0, 1.0))
