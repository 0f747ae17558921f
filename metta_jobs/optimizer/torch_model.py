"""A fitted process as a BoTorch model: for BoTorch's own acquisition functions, and to check ours against GPyTorch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from metta_jobs.errors import MissingExtra
from metta_jobs.optimizer.gp import JITTERS

if TYPE_CHECKING:
    from metta_jobs.optimizer.gp import GP


def as_botorch(gp: GP) -> Any:
    """A `botorch.models.SingleTaskGP` (float64) with the same data, kernel and noise: the same posterior.

    Its inputs are filled points (…, d), its outcome the standardised score. Raises MissingExtra without BoTorch.
    """
    try:
        import torch
        from botorch.models import SingleTaskGP
        from gpytorch.kernels import Kernel
        from gpytorch.means import ZeroMean
    except ImportError as error:
        raise MissingExtra("BoTorch is not installed. Install it with: pip install 'metta-jobs[sweep]'.") from error

    import numpy as np

    def tensor(values: Any) -> Any:
        return torch.as_tensor(np.asarray(values, dtype=float), dtype=torch.float64)

    hyper, additive = gp.hyper, gp.kind == "additive"
    categorical = torch.as_tensor(gp.shape.categorical)
    full, part = float(np.exp(hyper.full)), float(np.exp(hyper.additive)) / max(gp.shape.size, 1)
    ell, lam = tensor(np.exp(hyper.ell)), tensor(np.exp(hyper.lam))

    def kappa(r2: Any) -> Any:
        if gp.kind == "rbf":
            return torch.exp(-0.5 * r2)
        r = (5.0 * r2.clamp_min(1e-30)).sqrt()
        return (1.0 + r + r * r / 3.0) * torch.exp(-r)

    class Mixed(Kernel):  # type: ignore[misc]
        """The covariance of `metta_jobs.optimizer.kernel`."""

        has_lengthscale = False

        def forward(self, x1: Any, x2: Any, diag: bool = False, **_: Any) -> Any:
            gap = x1 - x2 if diag else x1.unsqueeze(-2) - x2.unsqueeze(-3)
            gap = torch.where(categorical, (gap != 0).to(gap), gap**2)
            total = 1.0 + full * kappa((gap / ell**2).sum(-1))
            return total + part * kappa(gap / lam**2).sum(-1) if additive else total

    noise = np.exp(hyper.noise) * gp.spread + gp.known
    noise = noise + gp.jitter if gp.jitter > JITTERS[0] else noise
    model = SingleTaskGP(
        tensor(gp.x),
        tensor(gp.y)[:, None],
        tensor(noise)[:, None],
        covar_module=Mixed(),
        mean_module=ZeroMean(),
        outcome_transform=None,
        input_transform=None,
    )
    return model.eval()
