"""Random streams: one per name and seed, independent of every other."""

import zlib

import numpy as np


def stream(seed: int, name: str) -> np.random.Generator:
    """The generator of one factor or texture of one volume.

    The stream depends on seed and name alone: a new factor leaves all others as they were, and a factor
    can be changed while the rest of the volume stays the same.
    """
    key = zlib.crc32(name.encode())
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(key,)))
