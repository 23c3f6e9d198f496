"""The seeds of a run: each is a pure function of the config's seed and of what it is for. No random state is saved."""

from data_prep.seeds import derive_seed


def model_seed(seed: int) -> int:
    """Return the seed of the initial weights: 63 bits, as torch.manual_seed takes."""
    return derive_seed(seed, "model") >> 1


def dropout_seed(seed: int, *, phase: int, step: int, stream: int, micro_batch: int) -> int:
    """Return the seed set before one forward pass: 63 bits.

    `step` counts within the phase; `micro_batch` counts within (step, stream). Owners of streams may change between
    any two steps; the masks of a micro-batch do not.
    """
    return derive_seed(seed, "dropout", phase, step, stream, micro_batch) >> 1


def mask_seed(seed: int, *, phase: int, epoch: int) -> int:
    """Return the seed of the masks that sequences of shards without masks get in one epoch: 128 bits."""
    return derive_seed(seed, "masks", phase, epoch, bits=128)


def held_out_mask_seed() -> int:
    """Return the seed of the masks of held-out sequences, 128 bits: the same at every evaluation of every run."""
    return derive_seed("held-out masks", bits=128)
