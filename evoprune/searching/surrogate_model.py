"""What a measured objective is likely to be at patterns that nobody evaluated yet.

A Gaussian process over patterns, which is Bayesian ridge regression on levels and products of
levels without ever writing the products down: the kernel of all pairs costs no more than that of
the levels, so 2,048 bits are as cheap as 20 genes. The weight of each term is fitted to the
evidence, so a term that explains nothing vanishes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from evoprune.core.metrics import spearman
from evoprune.searching.problem import Problem

# Terms of the kernel by the name of the model; the one with the best rank correlation is used.
KINDS = {"smooth": ("main", "smooth"), "chains": ("main", "pair", "near", "smooth_near")}
WARPS = ("plain", "tail")
# A trend in size that the data may set freely: its prior variance in those of the objective.
TREND_VARIANCE = 10.0
LOWEST, HIGHEST = 1e-4, 1e2
# Rows that weights are fitted to; a handful of weights needs no more, and time grows by the cube.
EVIDENCE = 200


class Encoded(NamedTuple):
    """Candidates as the model sees them.

    Attributes:
        steps: one column per level step, 1 where a candidate is beyond it (P, S).
        near: products of the removed shares of neighbouring genes (P, A).
        trend: powers of about the share of the FLOPs that is removed (P, 4).
    """

    steps: np.ndarray
    near: np.ndarray
    trend: np.ndarray


class Features:
    """Turns candidates into what the model sees.

    Level genes become steps (level 2 of 4 is beyond steps 1 and 2), so that each level has an
    effect of its own; bits are steps already. What lies in a dropped site counts as removed.
    Neighbours are genes that follow each other in the model, or among those of their kind:
    layers take over each other's work, so the products of neighbours have a weight of their own.
    """

    def __init__(self, problem: Problem) -> None:
        space = problem.space
        self._space, self._upper = space, space.upper
        self._variable = np.repeat(np.arange(space.n_var), space.upper)
        self._step = np.concatenate([np.arange(1, top + 1) for top in space.upper])
        width = self._upper[self._variable].astype(float)
        # min(a, b) / u and (min(a, b) / u)² of two levels, as sums over the steps both are beyond.
        self.weight = 1.0 / width
        self.weight_squared = (2.0 * self._step - 1.0) / width**2
        places = {name: i for i, name in enumerate(space.sites)}
        order = sorted(range(len(space.genes)), key=lambda g: places[space.genes[g].sites[0]])
        kinds: dict[str, list[int]] = {}
        for gene in order:
            kinds.setdefault(space.sites[space.genes[gene].sites[0]].kind, []).append(gene)
        self._pairs = sorted({p for chain in (order, *kinds.values()) for p in pairwise(chain)})
        self._starts = [space.columns(g).start for g in range(len(space.genes))]
        # What each variable alone removes; their sum ranks sizes and costs one product.
        alone = 1.0 - problem.share(space.canonical(np.diag(space.upper)))
        self._size = alone / max(alone.sum(), 1e-12) / space.upper

    def of(self, X: np.ndarray) -> Encoded:
        """Returns canonical candidates (P, n_var) encoded."""
        X = np.where(self._space.covered(X), self._upper, X)
        steps = (X[:, self._variable] >= self._step).astype(np.float64)
        shares = np.add.reduceat(X / self._upper, self._starts, axis=1)
        shares /= np.diff([*self._starts, X.shape[1]])
        first, second = np.array(self._pairs, dtype=np.int64).reshape(-1, 2).T
        trend = (X @ self._size)[:, None] ** range(4)
        return Encoded(steps, shares[:, first] * shares[:, second], trend)

    def kernels(self, a: Encoded, b: Encoded) -> dict[str, np.ndarray]:
        """Returns every term between two sets of candidates (A, B), each about 1 at its largest.

        ``gap`` and ``gap_near`` are no kernels but squared distances, for the smooth terms.
        """
        n, pairs = len(self._upper), max(len(self._pairs), 1)
        weighted = a.steps * self.weight
        both = weighted @ b.steps.T
        squared = (a.steps * self.weight_squared) @ b.steps.T
        gap = weighted.sum(1)[:, None] + (b.steps @ self.weight)[None, :] - 2 * both
        near = a.near @ b.near.T
        ends = (a.near**2).sum(1)[:, None] + (b.near**2).sum(1)[None, :]
        return {
            "trend": TREND_VARIANCE * (a.trend @ b.trend.T),
            "main": both / n,
            "pair": (both**2 - squared) / max(n * (n - 1), 1),
            "near": near / pairs,
            "gap": np.maximum(gap, 0.0) / n,
            "gap_near": np.maximum(gap / n + (ends - 2 * near) / pairs, 0.0),
        }

    def own(self, a: Encoded) -> dict[str, np.ndarray]:
        """Returns the diagonal of every term (P,)."""
        n, pairs = len(self._upper), max(len(self._pairs), 1)
        both, squared = a.steps @ self.weight, a.steps @ self.weight_squared
        return {
            "trend": TREND_VARIANCE * (a.trend**2).sum(1),
            "main": both / n,
            "pair": (both**2 - squared) / max(n * (n - 1), 1),
            "near": (a.near**2).sum(1) / pairs,
            "gap": np.zeros(len(both)),
            "gap_near": np.zeros(len(both)),
        }


@dataclass(frozen=True)
class Warp:
    """A monotone change of an objective (to be minimised) before it is modelled.

    ``tail`` squeezes the bad end, where perplexities and divergences explode.
    """

    kind: str
    low: float
    scale: float
    mean: float = 0.0
    spread: float = 1.0

    @classmethod
    def of(cls, kind: str, y: np.ndarray) -> "Warp":
        """Returns the change that brings values (P,) to mean 0 and variance 1."""
        low = float(y.min())
        # Half the values may share the best; the scale must not vanish beside the rest.
        bare = cls(kind, low, max(float(np.median(y) - low), 1e-3 * float(np.ptp(y))) or 1.0)
        values = bare.forward(y)
        return cls(kind, low, bare.scale, float(values.mean()), float(values.std()) or 1.0)

    def forward(self, y: np.ndarray) -> np.ndarray:
        """Returns values as they are modelled."""
        if self.kind == "tail":
            y = np.log1p(np.maximum(y - self.low, 0.0) / self.scale)
        return np.asarray((y - self.mean) / self.spread)

    def variance(self, y: np.ndarray, doubt: np.ndarray) -> np.ndarray:
        """Returns the modelled variance of values known with a standard deviation (P,)."""
        return np.asarray(((self.forward(y + doubt) - self.forward(y - doubt)) / 2) ** 2)

    def back(self, z: np.ndarray) -> np.ndarray:
        """Returns modelled values in the objective's unit."""
        y = z * self.spread + self.mean
        if self.kind == "tail":
            # Beyond the best value seen the change goes on as a straight line.
            y = self.low + self.scale * np.where(y > 0, np.expm1(np.clip(y, 0.0, 50.0)), y)
        return np.asarray(y)


@dataclass(frozen=True)
class Weights:
    """What was fitted: the variance of each term, of what no term explains, and the length."""

    terms: tuple[float, ...]
    noise: float
    length: float

    def covariance(self, kernels: Mapping[str, np.ndarray], kind: str) -> np.ndarray:
        """Returns the prior covariance without noise (A, B)."""
        total = kernels["trend"].copy()
        for variance, term in zip(self.terms, KINDS[kind], strict=True):
            total += variance * _term(kernels, term, self.length)
        return total


def _term(kernels: Mapping[str, np.ndarray], term: str, length: float) -> np.ndarray:
    if term.startswith("smooth"):
        return np.exp(-kernels[_gap(term)] / length)
    return kernels[term]


def _gap(term: str) -> str:
    return term.replace("smooth", "gap")


def fitted(
    kernels: Mapping[str, np.ndarray], z: np.ndarray, kind: str, doubt: np.ndarray
) -> Weights:
    """Returns the weights of the largest evidence (type-II maximum likelihood, L-BFGS).

    Of more rows than ``EVIDENCE`` every so many-th is looked at.

    Args:
        kernels: the terms among the rows (P, P).
        z: the modelled values (P,).
        kind: which terms.
        doubt: the variance with which each value is known, beside the fitted noise (P,).
    """
    from scipy.optimize import minimize

    terms = KINDS[kind]
    if len(z) > EVIDENCE:
        some = np.arange(EVIDENCE) * len(z) // EVIDENCE
        kernels = {name: kernel[np.ix_(some, some)] for name, kernel in kernels.items()}
        z, doubt = z[some], doubt[some]

    def loss(logs: np.ndarray) -> tuple[float, np.ndarray]:
        *variances, noise, length = np.exp(logs)
        parts = [v * _term(kernels, t, length) for v, t in zip(variances, terms, strict=True)]
        inverse, half_log_det = _inverse(kernels["trend"] + sum(parts), noise + doubt)
        alpha = inverse @ z
        slope = [-0.5 * (alpha @ part @ alpha - np.vdot(inverse, part)) for part in parts]
        slope.append(-0.5 * noise * (alpha @ alpha - np.trace(inverse)))
        change = parts[-1] * kernels[_gap(terms[-1])] / length
        slope.append(-0.5 * (alpha @ change @ alpha - np.vdot(inverse, change)))
        return float(0.5 * z @ alpha + half_log_det), np.array(slope)

    first = np.log([*[1.0] * len(terms), 0.02, 0.5])
    low, high = np.log(LOWEST), np.log(HIGHEST)
    bounds = [*[(low, high)] * len(terms), (low, 0.0), (np.log(0.1), np.log(4.0))]
    # A hundredth of a nat of evidence is no reason for another step.
    options = {"maxiter": 25, "maxfun": 40, "ftol": 1e-4}
    found = minimize(loss, first, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    *variances, noise, length = (float(value) for value in np.exp(found.x))
    return Weights(tuple(variances), noise, length)


def _inverse(prior: np.ndarray, noise: np.ndarray) -> tuple[np.ndarray, float]:
    """Returns the inverse of a covariance (P, P), and half the logarithm of its determinant.

    Args:
        prior: the covariance without noise (P, P).
        noise: what is added to its diagonal (P,).
    """
    from scipy.linalg import lapack

    matrix = prior.copy()
    matrix.flat[:: len(matrix) + 1] += noise + 1e-10
    factor, failed = lapack.dpotrf(matrix, lower=1, clean=1)
    if failed:  # rounding made it indefinite: a little more noise cures that
        return _inverse(prior, noise + 1e-6)
    half, _ = lapack.dpotri(factor, lower=1)
    inverse = half + half.T  # of which dpotri fills the lower half
    inverse.flat[:: len(inverse) + 1] *= 0.5
    return inverse, float(np.log(np.diag(factor)).sum())


@dataclass(frozen=True)
class Form:
    """How an objective is modelled: chosen now and then, while the rows grow.

    Attributes:
        kind: the terms.
        warp: the change of scale, by name.
        weights: the fitted weights.
        skill: rank correlation between left-out values and their predictions, both less what
            the candidates' size alone says.
    """

    kind: str
    warp: str
    weights: Weights
    skill: float


class Model:
    """A fitted model of one objective.

    Args:
        kernels: the terms among the rows (P, P).
        y: the values, to be minimised (P,).
        form: how they are modelled.
        doubt: the standard deviation with which each value is known (P,).
    """

    def __init__(
        self, kernels: Mapping[str, np.ndarray], y: np.ndarray, form: Form, doubt: np.ndarray
    ) -> None:
        self.form, self.warp = form, Warp.of(form.warp, y)
        z = self.warp.forward(y)
        prior = form.weights.covariance(kernels, form.kind)
        noise = form.weights.noise + self.warp.variance(y, doubt)
        self._inverse, _ = _inverse(prior, noise)
        self._alpha = self._inverse @ z
        left = self._alpha / np.diag(self._inverse)
        self.left_out = z - left
        # Where left-out values lie further off than they should, no prediction is that sure.
        surprise = np.mean(left**2 * np.diag(self._inverse))
        self._spread = max(1.0, float(np.sqrt(surprise)))

    def predict(
        self, across: Mapping[str, np.ndarray], own: Mapping[str, np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns mean and standard deviation (Q,), in the modelled scale.

        Args:
            across: the terms between new candidates and the rows (Q, P).
            own: the terms of each new candidate with itself (Q,).
        """
        weights, kind = self.form.weights, self.form.kind
        prior = weights.covariance(across, kind)
        explained = np.einsum("ij,ij->i", prior @ self._inverse, prior)
        variance = np.maximum(weights.covariance(own, kind) - explained, 1e-12)
        return prior @ self._alpha, self._spread * np.sqrt(variance)


def chosen(
    kernels: Mapping[str, np.ndarray], y: np.ndarray, size: np.ndarray, doubt: np.ndarray
) -> Form:
    """Returns the form that predicts left-out values best, by rank correlation.

    Left-out predictions are exact and free: a Gaussian process without one row needs no new fit.
    What the size of a candidate alone says is taken off both sides, else every model would look
    clever that knows that more removed is worse.

    Args:
        kernels: the terms among the rows (P, P).
        y: the values, to be minimised (P,).
        size: about the share of the FLOPs that each row removes (P,).
        doubt: the standard deviation with which each value is known (P,).
    """
    best: Form | None = None
    for warp in WARPS:
        change = Warp.of(warp, y)
        z, variance = change.forward(y), change.variance(y, doubt)
        for kind in KINDS:
            form = Form(kind, warp, fitted(kernels, z, kind, variance), 0.0)
            left_out = Model(kernels, y, form, doubt).left_out
            found = spearman(beyond(left_out, size), beyond(z, size))
            form = replace(form, skill=float(np.nan_to_num(found)))
            if best is None or form.skill > best.skill:
                best = form
    assert best is not None
    return best


def beyond(values: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Returns what a polynomial in the candidates' size leaves of values (P,)."""
    degree = max(0, min(6, len(size) // 6, len(np.unique(size)) - 1))
    basis = np.polynomial.legendre.legvander(2.0 * size - 1.0, degree)
    return np.asarray(values - basis @ np.linalg.lstsq(basis, values, rcond=None)[0])
