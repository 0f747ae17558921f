"""Problems that look like training an agent: mixed parameters, noise, failures, a cost that grows with steps."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from metta_jobs.optimizer.bench.problem import Params, Problem
from metta_jobs.optimizer.space import Space

_OPTIMIZERS = ("adam", "sgd", "muon", "lion")
_NETS = ("mlp", "cnn", "lstm")


def space(means: tuple[float, int]) -> dict[str, Any]:
    """Ten parameters; `means` are the search centres of the learning rate and of the steps."""
    return {
        "lr": {"distribution": "log_normal", "min": 1e-5, "max": 1e-1, "mean": means[0]},
        "gamma": {"distribution": "logit_normal", "min": 0.8, "max": 0.9999, "mean": 0.98},
        "lam": {"distribution": "logit_normal", "min": 0.5, "max": 0.995, "mean": 0.9},
        "entropy": {"distribution": "log_normal", "min": 1e-5, "max": 1e-1, "mean": 1e-3},
        "clip": {"distribution": "uniform", "min": 0.05, "max": 0.5, "mean": 0.2},
        "epochs": {"distribution": "int_uniform", "min": 1, "max": 8, "mean": 3},
        "batch": {"distribution": "uniform_pow2", "min": 256, "max": 32768, "mean": 2048},
        "steps": {"distribution": "log_normal", "min": 1_000_000, "max": 300_000_000, "mean": means[1]},
        "optimizer": {"distribution": "categorical", "choices": list(_OPTIMIZERS)},
        "net": {"distribution": "categorical", "choices": list(_NETS)},
    }


def training(
    name: str,
    seed: int,
    *,
    budget: float,
    noise: float = 2.0,
    cliff: float = 0.0,
    means: tuple[float, int] = (1e-3, 20_000_000),
) -> Problem:
    """One such problem, drawn by its seed. `cliff` is how suddenly learning sets in with steps, 0 smooth."""
    rng = np.random.default_rng(seed)
    best = {
        "lr": 10 ** rng.uniform(-3.6, -2.4),
        "gamma": rng.uniform(3.2, 6.0),  # logit
        "lam": rng.uniform(1.5, 4.0),
        "entropy": 10 ** rng.uniform(-4, -2),
        "clip": rng.uniform(0.1, 0.35),
        "epochs": rng.uniform(1.5, 5),
        "batch": rng.uniform(9.5, 13.5),  # power of 2
    }
    bonus = dict(zip(_OPTIMIZERS, rng.permutation([1.0, 0.97, 0.85, 0.6]), strict=True))
    shift = dict(zip(_OPTIMIZERS, rng.normal(0, 0.5, 4), strict=True))
    nets = dict(zip(_NETS, rng.permutation([1.0, 0.9, 0.75]), strict=True))
    weigh = {"mlp": 1.0, "cnn": 1.6, "lstm": 2.2}
    half = 10 ** rng.uniform(6.9, 7.4)

    def parts(p: Params) -> float:
        # A larger batch wants a larger learning rate, and each optimiser its own.
        lr = math.log10(p["lr"]) - math.log10(best["lr"]) - 0.25 * (math.log2(p["batch"]) - best["batch"]) * 0.3
        lr -= shift[p["optimizer"]]
        logit = {k: math.log(p[k] / (1 - p[k])) for k in ("gamma", "lam")}
        off = 0.55 * lr**2 + (0.9 * lr if lr > 0 else 0.0) ** 2
        off += 0.06 * (logit["gamma"] - best["gamma"]) ** 2 + 0.03 * (logit["lam"] - best["lam"]) ** 2
        off += 0.10 * math.log10(p["entropy"] / best["entropy"]) ** 2 + 2.0 * (p["clip"] - best["clip"]) ** 2
        off += 0.015 * (p["epochs"] - best["epochs"]) ** 2 + 0.02 * (math.log2(p["batch"]) - best["batch"]) ** 2
        return float(math.exp(-off) * bonus[p["optimizer"]] * nets[p["net"]])

    def truth(p: Params) -> float:
        quality = parts(p)
        pace = p["steps"] / (half * (1.3 - quality))
        learned = 1 / (1 + math.exp(-cliff * math.log(pace))) if cliff else 1 - math.exp(-(pace**0.7))
        return float(100.0 * quality * learned)

    def cost(p: Params) -> float:
        return float(p["steps"] / 1e6 * weigh[p["net"]] * (0.6 + 0.1 * p["epochs"]) * (1 + 400 / p["batch"]))

    def fails(p: Params) -> float:
        hot = math.log10(p["lr"]) + 1.7 + (0.3 if p["optimizer"] == "sgd" else 0.0)
        return 0.9 / (1 + math.exp(-6 * hot))

    def spread(p: Params) -> float:
        return noise * (0.5 + parts(p))

    return Problem(
        name,
        space(means),
        truth,
        _optimum(truth, space(means)),
        400,
        noise=spread,
        cost=cost,
        fails=fails,
        budget=budget,
    )


def _optimum(truth: Any, fields: dict[str, Any]) -> float:
    """The best true score, by hill climbing from many points: the problem is smooth but for its choices."""
    found = Space.from_dict(fields)
    rng = np.random.default_rng(0)
    points = found.sample(400, rng)
    values = np.array([truth(found.decode(x)) for x in points])
    x, value = points[int(np.argmax(values))], float(values.max())
    width = 0.3
    for _ in range(1500):
        step = x + width * rng.normal(size=len(x)) * (rng.random(len(x)) < 0.4)
        for i, dimension in enumerate(found.dimensions):
            if dimension.kind == "categorical" and rng.random() < 0.2:
                step[i] = rng.integers(dimension.levels or 1)
        step = found.snap(step[None])[0]
        if (gain := truth(found.decode(step))) > value:
            x, value = step, gain
        else:
            width = max(width * 0.995, 0.005)
    return value
