"""The covariance of mixed spaces: numbers by distance, categories by equality, an additive part beside the full one.

k(a, b) = c + s·κ(Σᵢ Dᵢ(a, b)/ℓᵢ²) + t/d·Σᵢ κ(Dᵢ(a, b)/λᵢ²) with Dᵢ the squared difference of a number, or 1 for two
categories that differ (Hutter et al. 2011, "Sequential model-based optimization for general algorithm
configuration"); κ is Matérn-5/2 or squared exponential, c stands for an unknown mean. The additive part learns
separable functions from few points (Duvenaud et al. 2011, "Additive Gaussian processes").
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from metta_jobs.optimizer.observations import Array

Kind = Literal["matern", "rbf", "additive"]
_ROOT5 = 5.0**0.5
_MEAN_VARIANCE = 1.0


@dataclass(frozen=True)
class Shape:
    """Which of d columns hold categories, (d,) bool."""

    categorical: np.ndarray

    @property
    def size(self) -> int:
        """d."""
        return len(self.categorical)

    def filled(self, x: Array) -> Array:
        """Points (n, d) with 0.5 (0 for a category) where a dimension is inactive: its parent tells the difference."""
        return np.where(np.isnan(x), np.where(self.categorical, 0.0, 0.5), x)

    def differences(self, a: Array, b: Array) -> Array:
        """Squared differences (d, n, m) of filled points (n, d) and (m, d)."""
        out = a.T[:, :, None] - b.T[:, None, :]
        np.square(out, out=out)
        if self.categorical.any():
            out[self.categorical] = out[self.categorical] > 0
        return out


@dataclass(frozen=True)
class Hyper:
    """Logarithms of scales: ell and lam (d,) lengthscales, full and additive variances, noise variance."""

    ell: Array
    lam: Array
    full: float
    additive: float
    noise: float


def kappa(kind: Kind, r2: Array) -> tuple[Array, Array]:
    """κ and its derivative by r² at squared distances."""
    if kind == "rbf":
        value = np.exp(-0.5 * r2)
        return value, -0.5 * value
    r = np.sqrt(r2)
    decay = np.exp(-_ROOT5 * r)
    return (1.0 + _ROOT5 * r + (5.0 / 3.0) * r2) * decay, (-5.0 / 6.0) * (1.0 + _ROOT5 * r) * decay


def covariance(kind: Kind, hyper: Hyper, differences: Array) -> tuple[Array, Array, Array]:
    """k (n, m) of squared differences (d, n, m), and its derivatives by them: of the full part (n, m), the same for
    all d but for 1/ℓᵢ², and of the additive one (d, n, m), or an empty array where there is none."""
    d = len(differences)
    inverse = np.exp(-2.0 * hyper.ell)
    r2 = np.tensordot(inverse, differences, axes=1)
    value, slope = kappa(kind, r2)
    full = np.exp(hyper.full)
    total = _MEAN_VARIANCE + full * value
    if kind != "additive":
        return total, full * slope, np.empty(0)
    part, part_slope = kappa(kind, differences * np.exp(-2.0 * hyper.lam)[:, None, None])
    scale = np.exp(hyper.additive) / d
    total += scale * part.sum(0)
    return total, full * slope, scale * part_slope


def prior_variance(kind: Kind, hyper: Hyper) -> float:
    """k(x, x), without noise."""
    return float(_MEAN_VARIANCE + np.exp(hyper.full) + (np.exp(hyper.additive) if kind == "additive" else 0.0))
