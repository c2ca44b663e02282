"""Out-of-distribution scores from logits (..., C): larger means more inside."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
ODIN_TEMPERATURE = 1000.0


def energy(logits: ArrayLike) -> Floats:
    """Returns the log of the summed exponentials, the negative free energy (Liu et al., 2020)."""
    values = np.asarray(logits, dtype=np.float64)
    top = values.max(axis=-1, keepdims=True)
    return np.asarray(np.log(np.exp(values - top).sum(axis=-1)) + top[..., 0])


def msp(logits: ArrayLike) -> Floats:
    """Returns the largest softmax probability (Hendrycks and Gimpel, 2017)."""
    return np.asarray(np.exp(max_logit(logits) - energy(logits)))


def max_logit(logits: ArrayLike) -> Floats:
    """Returns the largest logit (Hendrycks et al., 2022)."""
    return np.asarray(np.asarray(logits, dtype=np.float64).max(axis=-1))


def max_logit_centred(logits: ArrayLike) -> Floats:
    """Returns the largest logit less their mean.

    It ranks as ``odin`` does, which MO-EvoPruneDeepTL measures, without its loss of digits.
    """
    return max_logit(logits) - np.asarray(logits, dtype=np.float64).mean(axis=-1)


def odin(logits: ArrayLike, temperature: float = ODIN_TEMPERATURE) -> Floats:
    """Returns the largest softmax probability at a temperature.

    It is ODIN (Liang et al., 2018) without the gradient step on the input.
    """
    return msp(np.asarray(logits, dtype=np.float64) / temperature)


SCORES = {
    "msp": msp,
    "max_logit": max_logit,
    "max_logit_centred": max_logit_centred,
    "energy": energy,
}
