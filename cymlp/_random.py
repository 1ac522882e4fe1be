"""Random numbers by counter: each stream is keyed by (seed, purpose, step) and nothing else.

A stream does not depend on what was drawn before it, so that training that is resumed draws what
uninterrupted training would have drawn.
"""

from __future__ import annotations

import enum

import numpy as np


class Purpose(enum.IntEnum):
    """What a stream is for; a number, once given, is never given another meaning."""

    INITIAL_KERNEL = 0
    INITIAL_BIAS = 1
    SHUFFLE = 2
    DROPOUT = 3


def key(seed: int, purpose: Purpose, step: int) -> tuple[int, int]:
    """Return the key of a stream: a seed below 2**64, a purpose, and a step below 2**48.

    The second number of the next step's key is one more.
    """
    return seed, (purpose.value << 48) | step


def stream(seed: int, purpose: Purpose, step: int) -> np.random.Generator:
    """Return the generator of a stream's numbers; see `key`."""
    numbers = np.array(key(seed, purpose, step), np.uint64)
    return np.random.Generator(np.random.Philox(key=numbers))
