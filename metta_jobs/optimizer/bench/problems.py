"""The problems: those that the defaults were chosen on, and those that were held out until the end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from metta_jobs.optimizer.bench import functions as f
from metta_jobs.optimizer.bench.problem import Params, Problem, over_units, unit_space
from metta_jobs.optimizer.bench.training import training

_HARTMANN, _MICHALEWICZ5 = 3.32237, 4.687658


def smooth(name: str, function: f.Function, d: int, trials: int, optimum: float = 0.0, noise: float = 0.0) -> Problem:
    """A function over d numbers, with noise of this standard deviation."""
    return Problem(
        name, unit_space(d), over_units(function, d), optimum, trials, noise=(lambda _: noise) if noise else None
    )


def mixed7() -> Problem:
    """Seven parameters: three numbers, two whole ones, two categories that shift the best of the others."""
    space: dict[str, Any] = {
        "rate": {"distribution": "log_normal", "min": 1e-4, "max": 1.0, "mean": 1e-2},
        "momentum": {"distribution": "uniform", "min": 0.0, "max": 1.0},
        "decay": {"distribution": "log_normal", "min": 1e-6, "max": 1e-1, "mean": 1e-4},
        "depth": {"distribution": "int_uniform", "min": 1, "max": 8},
        "width": {"distribution": "uniform_pow2", "min": 8, "max": 1024},
        "kind": {"distribution": "categorical", "choices": ["a", "b", "c"]},
        "norm": {"distribution": "categorical", "choices": ["none", "layer"]},
    }
    shift = {"a": 0.0, "b": 0.7, "c": -0.9}
    height = {"a": 0.9, "b": 1.0, "c": 0.8}

    def truth(p: Params) -> float:
        rate = np.log10(p["rate"]) + 2.4 - shift[p["kind"]] - 0.1 * (p["depth"] - 4)
        off = 0.25 * rate**2 + 1.5 * (p["momentum"] - 0.8) ** 2 + 0.05 * (np.log10(p["decay"]) + 3.5) ** 2
        off += 0.03 * (p["depth"] - 5) ** 2 + 0.02 * (np.log2(p["width"]) - 8) ** 2
        return float(height[p["kind"]] * (1.0 if p["norm"] == "layer" or p["depth"] < 4 else 0.85) * np.exp(-off))

    return Problem("mixed7", space, truth, _most(truth, 5, 256.0), 60)


def _most(truth: Callable[[Params], float], depth: int, width: float) -> float:
    """The optimum of mixed7 by its closed form: each kind at its own best rate."""
    best = 0.0
    for kind, shift in (("a", 0.0), ("b", 0.7), ("c", -0.9)):
        for deep in range(1, 9):
            rate = 10 ** (-2.4 + shift + 0.1 * (deep - 4))
            point = {
                "rate": min(max(rate, 1e-4), 1.0),
                "momentum": 0.8,
                "decay": 10**-3.5,
                "depth": deep,
                "width": width,
            }
            best = max(best, truth({**point, "kind": kind, "norm": "layer"}))
    return best


def categories(name: str, seed: int, trials: int) -> Problem:
    """Six categories of 3 to 6 choices with effects of their own and of pairs, and two numbers."""
    rng = np.random.default_rng(seed)
    sizes = [3, 4, 5, 6, 4, 3]
    single = [rng.normal(size=k) for k in sizes]
    pair = {(i, i + 1): 0.7 * rng.normal(size=(sizes[i], sizes[i + 1])) for i in range(5)}
    middle = rng.uniform(0.2, 0.8, size=(sizes[0], 2))
    space: dict[str, Any] = {
        f"c{i}": {"distribution": "categorical", "choices": [f"v{j}" for j in range(k)]} for i, k in enumerate(sizes)
    }
    space |= unit_space(2)

    def effect(c: tuple[int, ...]) -> float:
        return float(sum(single[i][v] for i, v in enumerate(c)) + sum(t[c[i], c[j]] for (i, j), t in pair.items()))

    def truth(p: Params) -> float:
        c = tuple(int(p[f"c{i}"][1:]) for i in range(6))
        off = (np.array([p["x0"], p["x1"]]) - middle[c[0]]) ** 2
        return effect(c) - 4.0 * float(off.sum())

    best = max(effect(tuple(int(v) for v in c)) for c in np.ndindex(*sizes))
    return Problem(name, space, truth, best, trials)


def few_matter(name: str, d: int, seed: int, trials: int) -> Problem:
    """Hartmann-6 in six of d dimensions."""
    which = np.random.default_rng(seed).permutation(d)[:6]
    return smooth(name, lambda u: f.hartmann6(u[which]), d, trials, _HARTMANN)


def conditional(name: str, trials: int) -> Problem:
    """A choice of which each has parameters of its own."""
    space: dict[str, Any] = {
        "algo": {"distribution": "categorical", "choices": ["ppo", "sac"]},
        "lr": {"distribution": "log_normal", "min": 1e-5, "max": 1e-1, "mean": 1e-3},
        "clip": {"distribution": "uniform", "min": 0.0, "max": 1.0, "when": {"algo": "ppo"}},
        "epochs": {"distribution": "int_uniform", "min": 1, "max": 10, "when": {"algo": "ppo"}},
        "tau": {"distribution": "log_normal", "min": 1e-4, "max": 1e-1, "mean": 1e-2, "when": {"algo": "sac"}},
    }

    def truth(p: Params) -> float:
        lr = np.log10(p["lr"])
        if p["algo"] == "ppo":
            return float(
                0.85 * np.exp(-0.4 * (lr + 3.5) ** 2 - 4 * (p["clip"] - 0.2) ** 2 - 0.02 * (p["epochs"] - 4) ** 2)
            )
        return float(np.exp(-0.8 * (lr + 2.7) ** 2 - 0.6 * (np.log10(p["tau"]) + 2.3) ** 2))

    return Problem(name, space, truth, 1.0, trials)


def uneven(name: str, seed: int, trials: int) -> Problem:
    """A turned Styblinski-Tang in 5 dimensions whose noise grows away from the middle."""
    function = f.moved(f.styblinski_tang, 5, seed, 0.15)
    return Problem(
        name,
        unit_space(5),
        over_units(function, 5),
        39.16617 * 5,
        trials,
        noise=lambda p: 5.0 + 30.0 * abs(p["x0"] - 0.5),
    )


def flipped(function: f.Function, d: int, seed: int) -> f.Function:
    """The function with dimensions shuffled, and some of them mirrored."""
    rng = np.random.default_rng(seed)
    order, flip = rng.permutation(d), rng.random(d) < 0.5
    return lambda u: function(np.where(flip, 1 - u, u)[order])


#: What the defaults were chosen on.
TUNED: dict[str, Callable[[], Problem]] = {
    "hartmann6-noisy": lambda: smooth("hartmann6-noisy", f.hartmann6, 6, 60, _HARTMANN, 0.2),
    "ackley5": lambda: smooth("ackley5", f.moved(f.ackley, 5, 1), 5, 100),
    "levy8": lambda: smooth("levy8", f.levy, 8, 100),
    "mixed7": mixed7,
    "training": lambda: training("training", 1, budget=2000.0),
    "rosenbrock4": lambda: smooth("rosenbrock4", f.rosenbrock, 4, 60),
    "steps6": lambda: smooth("steps6", f.moved(f.steps, 6, 2), 6, 80),
    "categories": lambda: categories("categories", 1, 80),
    "branin": lambda: smooth("branin", f.branin, 2, 40, -0.397887),
}
#: What was looked at once, at the end.
HELD_OUT: dict[str, Callable[[], Problem]] = {
    "hartmann6-flipped": lambda: smooth("hartmann6-flipped", flipped(f.hartmann6, 6, 5), 6, 60, _HARTMANN, 0.3),
    "ackley5-moved": lambda: smooth("ackley5-moved", f.moved(f.ackley, 5, 77), 5, 100),
    "ackley5-turned": lambda: smooth("ackley5-turned", f.rotated(f.moved(f.ackley, 5, 31, 0.15), 5, 32), 5, 100),
    "levy8-moved": lambda: smooth("levy8-moved", f.moved(f.levy, 8, 41, 0.2), 8, 100),
    "training-2": lambda: training("training-2", 22, budget=2500.0, means=(3e-3, 10_000_000)),
    "training-cliff": lambda: training("training-cliff", 33, budget=2000.0, noise=4.0, cliff=3.0),
    "michalewicz5": lambda: smooth("michalewicz5", f.michalewicz, 5, 100, _MICHALEWICZ5),
    "rastrigin5": lambda: smooth("rastrigin5", f.moved(f.rastrigin, 5, 51), 5, 100),
    "griewank6": lambda: smooth("griewank6", f.rotated(f.moved(f.griewank, 6, 61, 0.15), 6, 62), 6, 80),
    "styblinski-uneven": lambda: uneven("styblinski-uneven", 71, 80),
    "ellipsoid6-turned": lambda: smooth(
        "ellipsoid6-turned", f.rotated(f.moved(f.ellipsoid, 6, 81, 0.15), 6, 82), 6, 80
    ),
    "needle4": lambda: smooth("needle4", f.needle, 4, 80),
    "hartmann6-of-25": lambda: few_matter("hartmann6-of-25", 25, 91, 120),
    "categories-2": lambda: categories("categories-2", 102, 80),
    "conditional": lambda: conditional("conditional", 50),
}
PROBLEMS = TUNED | HELD_OUT
