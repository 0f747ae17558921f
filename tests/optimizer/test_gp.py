"""The Gaussian process: its gradient, its agreement with BoTorch, and what it does about noise."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from metta_jobs.optimizer.acquisition import log_expected_improvement, log_h
from metta_jobs.optimizer.gp import GP, JITTERS, Priors, cholesky
from metta_jobs.optimizer.kernel import Kind, Shape
from metta_jobs.optimizer.transforms import Transform

MIXED = Shape(np.array([False, False, True]))


def data(n: int = 25) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    x = rng.random((n, 3))
    x[:, 2] = rng.integers(0, 3, n)
    y = np.sin(4 * x[:, 0]) + x[:, 1] + (x[:, 2] == 1) + 0.05 * rng.normal(size=n)
    return x, (y - y.mean()) / y.std()


def process(kind: Kind) -> GP:
    x, y = data()
    return GP(MIXED, kind, x, y, np.ones(len(x)), np.zeros(len(x)), Priors.of(3))


@pytest.mark.parametrize("kind", ["matern", "rbf", "additive"])
def test_the_gradient_is_that_of_the_objective(kind: Kind) -> None:
    from scipy.optimize import approx_fprime

    gp = process(kind)
    differences = MIXED.differences(gp.x, gp.x)
    flat = differences.reshape(3, -1)
    theta = gp._start(0) + 0.2 * np.random.default_rng(0).normal(size=len(gp._start(0)))
    numeric = approx_fprime(theta, lambda t: gp._objective(t, differences, flat)[0], 1e-6)
    assert gp._objective(theta, differences, flat)[1] == pytest.approx(numeric, abs=2e-3)


@pytest.mark.parametrize("kind", ["matern", "rbf", "additive"])
def test_botorch_has_the_same_posterior(kind: Kind) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import torch

        from metta_jobs.optimizer.torch_model import as_botorch

        gp = process(kind).fit()
        points = np.random.default_rng(2).random((10, 3))
        points[:, 2] = 1
        posterior = as_botorch(gp).posterior(torch.as_tensor(points))
    mean, variance = gp.predict(points)
    assert posterior.mean.detach().numpy()[:, 0] == pytest.approx(mean, abs=1e-6)
    assert posterior.variance.detach().numpy()[:, 0] == pytest.approx(variance, abs=1e-6)


def test_points_that_are_alike_climb_the_jitter_ladder() -> None:
    matrix = np.ones((5, 5))
    matrix[0, 1] = matrix[1, 0] = 1 + 1e-6
    factor, jitter = cholesky(matrix)
    assert jitter > JITTERS[0]
    assert factor @ factor.T == pytest.approx(matrix, abs=1e-2)


def test_no_jitter_mends_a_matrix_that_is_no_covariance() -> None:
    with pytest.raises(np.linalg.LinAlgError):
        cholesky(np.array([[1.0, 5.0], [5.0, 1.0]]))


def test_more_replicates_are_believed_more() -> None:
    x, y = data()
    y[0] += 3.0
    shifts = []
    for count in (1, 50):
        spread = np.ones(len(x))
        spread[0] = 1.0 / count
        hyper = process("matern").fit().hyper
        gp = GP(MIXED, "matern", x, y, spread, np.zeros(len(x)), Priors.of(3)).condition(hyper)
        shifts.append(float(gp.predict(x[:1])[0][0]))
    assert shifts[1] > shifts[0]


def test_a_fantasy_shrinks_doubt_and_moves_no_mean() -> None:
    gp = process("matern").fit()
    point = np.array([[0.9, 0.1, 2.0]])
    mean, variance = gp.predict(point)
    later_mean, later_variance = gp.fantasise(point).predict(point)
    assert later_mean == pytest.approx(mean, abs=1e-6)
    assert later_variance[0] < variance[0]


def test_log_improvement_is_accurate_far_from_the_best() -> None:
    for u, expected in ((0.0, np.log(1 / np.sqrt(2 * np.pi))), (-10.0, -55.5533), (-200.0, -20011.516)):
        assert float(log_h(np.array(u))) == pytest.approx(expected, abs=1e-2)
    draws = np.maximum(np.random.default_rng(0).normal(1.0, 2.0, 200_000) - 1.5, 0).mean()
    assert float(np.exp(log_expected_improvement(np.array(1.0), np.array(2.0), 1.5))) == pytest.approx(draws, rel=0.02)


@pytest.mark.parametrize("make", [Transform.plain, Transform.power_of])
def test_a_transform_comes_back(make) -> None:  # type: ignore[no-untyped-def]
    y = np.exp(np.random.default_rng(0).normal(size=40))
    transform = make(y)
    assert transform.inverse(transform.forward(y)) == pytest.approx(y, rel=1e-6)
    assert transform.forward(y).mean() == pytest.approx(0, abs=1e-9)
    numeric = (transform.forward(y + 1e-6) - transform.forward(y - 1e-6)) / 2e-6
    assert transform.slope(y) == pytest.approx(numeric, rel=1e-4)
