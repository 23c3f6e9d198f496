"""Named randomness: every draw in Lambert comes from a hash of what it is for, never from a state that lives on."""

from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray


def derive_seed(*parts: int | str, bits: int = 64) -> int:
    """Return an unsigned integer of `bits` bits (a multiple of 8, at most 512) that is a pure function of `parts`.

    The parts are joined with their types, so that `("1", 2)` and `(1, "2")` differ.
    """
    text = "/".join(f"{type(part).__name__}:{part}" for part in parts)
    return int.from_bytes(blake2b(text.encode(), digest_size=bits // 8).digest(), "little")


def bit_generator(*parts: int | str) -> np.random.BitGenerator:
    """Return a source of raw 64-bit words, `random_raw(size)`, that is a pure function of `parts`.

    numpy promises that a bit generator's raw words never change between releases, and does not promise it for what
    `Generator` draws from them (NEP 19). A week-long run may outlive a numpy release.
    """
    return np.random.Philox(key=derive_seed(*parts, bits=128))


def generator(*parts: int | str) -> np.random.Generator:
    """Return a numpy generator whose stream is a pure function of `parts`."""
    return np.random.Generator(bit_generator(*parts))


def permutation(count: int, *parts: int | str) -> NDArray[np.int64]:
    """Return a permutation of `range(count)`, int64 [count], that is a pure function of `count` and `parts`.

    It sorts raw words, which no numpy release changes.
    """
    return np.argsort(bit_generator(*parts).random_raw(count), kind="stable")
