"""The device that a rank takes."""

import pytest
import torch

from pretrain.distributed import take_device


def test_more_ranks_than_gpus_on_a_node_are_refused_with_the_number_that_fits(monkeypatch):
    taken = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    take_device(torch.device("cpu"))
    take_device(torch.device("cuda", 3))
    assert taken == [torch.device("cuda", 3)]
    with pytest.raises(ValueError, match=r"^LOCAL_RANK=4 is not valid: this process sees 4 GPUs .* at most 4 ranks"):
        take_device(torch.device("cuda", 4))
