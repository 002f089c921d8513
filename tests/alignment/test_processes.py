import re

import pytest
import torch

from ipa_core.alignment.processes import Processes, as_held, launched, whole


def test_shares_make_the_batch():
    batch = list(range(12))
    shares = [batch[Processes(rank, 3).share(12, accumulation=2)] for rank in range(3)]
    assert shares == [batch[:4], batch[4:8], batch[8:]]


def test_one_process_computes_the_whole_batch():
    assert Processes().share(8, accumulation=4) == slice(0, 8)


def test_a_batch_that_can_not_be_shared_is_refused():
    message = "alignment.batch_size is 8, which 2 processes can't share in 3 equal parts each: make it a multiple of 6"
    with pytest.raises(ValueError, match=re.escape(message)):
        Processes(0, 2).share(8, accumulation=3)


def test_only_the_first_writes():
    assert [Processes(rank, 2).first for rank in range(2)] == [True, False]


def test_tensors_of_one_process_are_whole():
    tensor = torch.randn(3)
    assert whole(tensor) is tensor
    assert as_held(tensor, torch.empty(3)) is tensor


def test_more_processes_than_gpus_are_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with (
        pytest.raises(ValueError, match=r"train_processes is 2, each needs a GPU of its own, and this machine has 1$"),
        launched(2, "ddp", "cuda"),
    ):
        pass
