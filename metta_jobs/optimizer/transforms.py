"""Scores as a Gaussian process wants them: standardised, and bent where the evidence asks for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from metta_jobs.optimizer.observations import Array


@dataclass(frozen=True)
class Transform:
    """z = (bend((y - centre) / scale) - shift) / stretch, bend being Yeo and Johnson's power (2000, "A new family of
    power transformations to improve normality or symmetry"); power 1 bends nothing."""

    centre: float = 0.0
    scale: float = 1.0
    power: float = 1.0
    shift: float = 0.0
    stretch: float = 1.0

    def forward(self, y: Array) -> Array:
        """z of scores."""
        return (self._bend((y - self.centre) / self.scale) - self.shift) / self.stretch

    def inverse(self, z: Array) -> Array:
        """Scores of z; where the bend has no inverse, those of its end."""
        t = np.asarray(z * self.stretch + self.shift, dtype=float)
        up, down = np.maximum(t, 0.0), np.maximum(-t, 0.0)
        p, q = self.power, 2.0 - self.power
        high = np.expm1(up) if p == 0 else np.maximum(p * up + 1.0, 1e-12) ** (1.0 / p) - 1.0
        low = np.expm1(down) if q == 0 else np.maximum(q * down + 1.0, 1e-12) ** (1.0 / q) - 1.0
        return np.asarray(np.where(t >= 0, high, -low) * self.scale + self.centre)

    def slope(self, y: Array) -> Array:
        """dz/dy at scores."""
        t = (y - self.centre) / self.scale
        bent = np.where(t >= 0, (np.maximum(t, 0) + 1.0) ** (self.power - 1.0), 0.0)
        bent = np.where(t < 0, (np.maximum(-t, 0) + 1.0) ** (1.0 - self.power), bent)
        return np.asarray(bent / (self.scale * self.stretch))

    def _bend(self, t: Array) -> Array:
        up, down = np.maximum(t, 0.0), np.maximum(-t, 0.0)
        p, q = self.power, 2.0 - self.power
        high = np.log1p(up) if p == 0 else ((up + 1.0) ** p - 1.0) / p
        low = np.log1p(down) if q == 0 else ((down + 1.0) ** q - 1.0) / q
        return np.asarray(np.where(t >= 0, high, -low))

    @classmethod
    def plain(cls, y: Array) -> Transform:
        """To mean 0 and standard deviation 1."""
        spread = float(np.std(y))
        return cls(centre=float(np.mean(y)), scale=spread if spread > 1e-12 * (1 + abs(float(np.mean(y)))) else 1.0)

    @classmethod
    def power_of(cls, y: Array) -> Transform:
        """To mean 0 and standard deviation 1 after the bend that makes the scores most normal."""
        from scipy.stats import yeojohnson_normmax

        start = cls.plain(y)
        t = (y - start.centre) / start.scale
        try:
            power = float(np.clip(yeojohnson_normmax(t), -2.0, 4.0))
        except (ValueError, RuntimeError):  # scores that no power makes normal
            return start
        bent = cls(start.centre, start.scale, power)._bend(t)
        stretch = float(np.std(bent))
        return cls(start.centre, start.scale, power, float(np.mean(bent)), stretch) if stretch > 1e-9 else start
