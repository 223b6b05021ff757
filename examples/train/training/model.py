"""y = slope * x + intercept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass
class Line:
    slope: float = 0.0
    intercept: float = 0.0

    def step(self, xs: Sequence[float], ys: Sequence[float], rate: float) -> float:
        """One step of gradient descent; returns the mean squared error before it."""
        errors = [self.slope * x + self.intercept - y for x, y in zip(xs, ys)]
        count = len(xs)
        self.slope -= rate * 2 / count * sum(e * x for e, x in zip(errors, xs))
        self.intercept -= rate * 2 / count * sum(errors)
        return sum(e * e for e in errors) / count
