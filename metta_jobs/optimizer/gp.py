"""Gaussian processes with noise of their own at each point, fitted by their posterior mode.

Priors on lengthscales grow with the dimension (Hvarfner, Hellsten and Nardi 2024, "Vanilla Bayesian optimization
performs great in high dimensions"). The objective is GPyTorch's exact marginal likelihood; its gradient is written
out, which is an order of magnitude faster than autograd at the few hundred points of a sweep (docs/optimizer.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from metta_jobs.optimizer.kernel import Hyper, Kind, Shape, covariance, prior_variance

if TYPE_CHECKING:
    from metta_jobs.optimizer.observations import Array

#: Added to the diagonal, rung by rung, until the Cholesky factorisation holds.
JITTERS = (1e-9, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3)
_BOUNDS = {"ell": (-4.0, 6.0), "scale": (-6.0, 4.0), "noise": (-16.0, 1.0)}


@dataclass(frozen=True)
class Priors:
    """Normal priors (mean, standard deviation) on the logarithms of hyperparameters, for d dimensions."""

    ell: tuple[float, float]
    lam: tuple[float, float]
    full: tuple[float, float]
    additive: tuple[float, float]
    noise: tuple[float, float]

    @classmethod
    def of(cls, d: int, noise: tuple[float, float] = (-4.5, 1.0)) -> Priors:
        """Lengthscales grow with √d; shorter and surer than BoTorch's, whose few data are often called all noise."""
        return cls(
            ell=(np.log(0.4) + 0.5 * np.log(max(d, 1)), 0.8),
            lam=(0.0, 1.0),
            full=(0.0, 1.0),
            additive=(0.0, 1.0),
            noise=noise,
        )


def cholesky(matrix: Array) -> tuple[Array, float]:
    """The lower factor of a covariance and the jitter that it took. Raises LinAlgError past the last rung."""
    scale = float(np.mean(np.diag(matrix)))
    for jitter in JITTERS:
        try:
            return np.linalg.cholesky(matrix + jitter * scale * np.eye(len(matrix))), jitter
        except np.linalg.LinAlgError:
            continue
    raise np.linalg.LinAlgError("not positive definite, even with jitter")


class GP:
    """A Gaussian process over filled points, fitted to standardised values.

    x (n, d), y (n,), spread (n,) by which the learned noise is multiplied (1/count), known (n,) noise variance that is
    known, added to it. Attributes: hyper, evidence (log posterior density), jitter.
    """

    def __init__(self, shape: Shape, kind: Kind, x: Array, y: Array, spread: Array, known: Array, priors: Priors):
        self.shape, self.kind, self.priors = shape, kind, priors
        self.x, self.y, self.spread, self.known = x, y, spread, known
        self.evidence = -np.inf
        self.jitter = JITTERS[0]

    def fit(self, starts: int = 2, steps: int = 40) -> GP:
        """Find the mode of the hyperparameters' posterior by L-BFGS from one or two starts."""
        from scipy.optimize import minimize

        d = self.shape.size
        differences = self.shape.differences(self.x, self.x)
        flat = differences.reshape(d, -1)
        bounds = [_BOUNDS["ell"]] * (2 * d if self.kind == "additive" else d) + [_BOUNDS["scale"]] * (
            2 if self.kind == "additive" else 1
        )
        bounds.append(_BOUNDS["noise"])
        best, found = np.inf, None
        for start in range(starts):
            first = self._start(start)
            result = minimize(
                self._objective, first, (differences, flat), "L-BFGS-B", True, bounds=bounds, options={"maxiter": steps}
            )
            if result.fun < best:
                best, found = float(result.fun), result.x
        if found is None:  # every start met a matrix that cannot be factorised
            found = self._start(0)
        self.evidence = -best
        return self.condition(self._unpack(found))

    def condition(self, hyper: Hyper) -> GP:
        """Take these hyperparameters, and prepare to predict."""
        self.hyper = hyper
        matrix, _, _ = covariance(self.kind, hyper, self.shape.differences(self.x, self.x))
        matrix[np.diag_indices(len(matrix))] += self._noise(hyper)
        self._factor, self.jitter = cholesky(matrix)
        self._weights = _solve(self._factor, self.y)
        return self

    def fantasise(self, x: Array) -> GP:
        """This model after seeing its own mean at points (m, d): the mean stays, the doubt there shrinks."""
        if not len(x):
            return self
        mean, _ = self.predict(x)
        grown = GP(
            self.shape,
            self.kind,
            np.vstack([self.x, x]),
            np.concatenate([self.y, mean]),
            np.concatenate([self.spread, np.ones(len(x))]),
            np.concatenate([self.known, np.zeros(len(x))]),
            self.priors,
        )
        grown.evidence = self.evidence
        return grown.condition(self.hyper)

    def predict(self, x: Array) -> tuple[Array, Array]:
        """Mean (m,) and variance (m,) of the function without noise at filled points (m, d)."""
        from scipy.linalg import solve_triangular

        means, variances = [], []
        for part in np.array_split(x, max(1, len(x) * len(self.x) * self.shape.size // 4_000_000)):
            cross, _, _ = covariance(self.kind, self.hyper, self.shape.differences(part, self.x))
            means.append(cross @ self._weights)
            half = solve_triangular(self._factor, cross.T, lower=True, check_finite=False)
            variances.append(prior_variance(self.kind, self.hyper) - np.einsum("ij,ij->j", half, half))
        return np.concatenate(means), np.maximum(np.concatenate(variances), 1e-12)

    def _noise(self, hyper: Hyper) -> Array:
        return np.asarray(np.exp(hyper.noise) * self.spread + self.known)

    def _start(self, number: int) -> Array:
        p, d = self.priors, self.shape.size
        shift = -1.0 if number else 0.0
        ell = np.full(d, min(p.ell[0], 1.0) + shift)
        tail = [p.noise[0]] if not number else [p.noise[0] + 2.0]
        if self.kind == "additive":
            return np.concatenate([ell, np.full(d, p.lam[0]), [-0.5, -0.5], tail])
        return np.concatenate([ell, [0.0], tail])

    def _unpack(self, theta: Array) -> Hyper:
        d = self.shape.size
        if self.kind == "additive":
            full, additive, noise = (float(v) for v in theta[2 * d :])
            return Hyper(theta[:d], theta[d : 2 * d], full, additive, noise)
        return Hyper(theta[:d], np.zeros(d), float(theta[d]), -np.inf, float(theta[d + 1]))

    def _objective(self, theta: Array, differences: Array, flat: Array) -> tuple[float, Array]:
        """The negative log posterior of packed hyperparameters and its gradient."""
        hyper, n = self._unpack(theta), len(self.y)
        matrix, full_slope, additive_slope = covariance(self.kind, hyper, differences)
        full = np.exp(hyper.full) * _full_part(self.kind, hyper, differences)
        noisy = matrix.copy()
        noisy[np.diag_indices(n)] += self._noise(hyper) + JITTERS[0]
        try:
            factor = np.linalg.cholesky(noisy)
        except np.linalg.LinAlgError:
            return 1e10, np.zeros_like(theta)
        inverse = _solve(factor, np.eye(n))
        weights = inverse @ self.y
        outer = np.outer(weights, weights) - inverse
        value = 0.5 * float(self.y @ weights) + float(np.log(np.diag(factor)).sum()) + 0.5 * n * np.log(2 * np.pi)
        gradient = [np.exp(-2.0 * hyper.ell) * (flat @ (outer * full_slope).ravel())]
        if self.kind == "additive":
            by = np.einsum("ijk,ijk->i", additive_slope * differences, np.broadcast_to(outer, differences.shape))
            gradient.append(np.exp(-2.0 * hyper.lam) * by)
        gradient.append(np.array([-0.5 * float((outer * full).sum())]))
        if self.kind == "additive":
            gradient.append(np.array([-0.5 * float((outer * (matrix - full - 1.0)).sum())]))
        gradient.append(np.array([-0.5 * float(np.diag(outer) @ (np.exp(hyper.noise) * self.spread))]))
        slope = np.concatenate(gradient)
        means, widths = self._prior_arrays()
        off = (theta - means) / widths
        return value + 0.5 * float(off @ off), slope + off / widths

    def _prior_arrays(self) -> tuple[Array, Array]:
        p, d = self.priors, self.shape.size
        rows = [p.ell] * d + [p.full, p.noise]
        if self.kind == "additive":
            rows = [p.ell] * d + [p.lam] * d + [p.full, p.additive, p.noise]
        pairs = np.array(rows)
        return pairs[:, 0], pairs[:, 1]


def _full_part(kind: Kind, hyper: Hyper, differences: Array) -> Array:
    from metta_jobs.optimizer.kernel import kappa

    return kappa(kind, np.tensordot(np.exp(-2.0 * hyper.ell), differences, axes=1))[0]


def _solve(factor: Array, right: Array) -> Array:
    from scipy.linalg import cho_solve

    return np.asarray(cho_solve((factor, True), right, check_finite=False))
