"""What the libraries raise when a collective fails, told apart from a bug and put into few words."""

import re

import torch.distributed as dist


def is_collective_failure(error: BaseException) -> bool:
    """Return whether a collective raised it: NCCL's and the store's are DistErrors, gloo's name its source file."""
    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "/gloo/" in str(error))


def gist(error: BaseException) -> str:
    """Return a collective's error as one line, without gloo's source line and its guesses about remote workers."""
    words = re.sub(r"^\[\S+gloo/\S+\] ", "", " ".join(str(error).split()))
    return words.partition(" This is typically caused by")[0]
