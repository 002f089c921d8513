import logging

import pytest

from storage.checkpoints import Checkpoints


def test_the_newest_state_is_loaded(address):
    checkpoints = Checkpoints(address)
    assert checkpoints.load("run") is None
    checkpoints.save("run", 9, b"nine")
    checkpoints.save("run", 10, b"ten")
    assert Checkpoints(address).load("run") == (10, b"ten")
    assert checkpoints.load("other") is None


def test_two_states_are_kept(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    for step in range(5):
        checkpoints.save("run", step, b"state %d" % step)
    assert len(list((tmp_path / "checkpoints" / "run").iterdir())) == 2


@pytest.mark.parametrize("damage", [b"", b"state", b"state 9"])
def test_a_torn_state_falls_back_to_the_one_before(tmp_path, caplog, damage):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save("run", 1, b"state 1")
    checkpoints.save("run", 2, b"state 2")
    newest = max((tmp_path / "checkpoints" / "run").iterdir())
    newest.write_bytes(damage)
    with caplog.at_level(logging.WARNING):
        assert checkpoints.load("run") == (1, b"state 1")
    assert "step 2 is damaged" in caplog.text
    checkpoints.save("run", 2, b"state 2")
    assert checkpoints.load("run") == (2, b"state 2")


def test_a_step_that_is_repeated_with_other_bytes_replaces_the_earlier(address):
    checkpoints = Checkpoints(address)
    for data in (b"a", b"b", b"c"):
        checkpoints.save("run", 1, data)
        assert checkpoints.load("run") == (1, data)


def test_clearing_removes_one_actions_states(address):
    checkpoints = Checkpoints(address)
    checkpoints.save("run", 1, b"a")
    checkpoints.save("other", 1, b"b")
    checkpoints.clear("run")
    assert checkpoints.load("run") is None
    assert checkpoints.load("other") == (1, b"b")


def test_only_names_become_paths(tmp_path):
    with pytest.raises(ValueError, match="a checkpoint's key is"):
        Checkpoints(tmp_path).save("../run", 1, b"")
