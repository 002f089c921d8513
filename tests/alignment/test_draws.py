import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ipa_core.alignment.draws import draw
from ipa_core.alignment.visits import epoch_order, epochs_of_run, visits
from ipa_core.config import AlignmentConfig

digests = st.lists(st.text("0123456789abcdef", min_size=4, max_size=4), min_size=1, max_size=12, unique=True)


def test_draws_are_these():
    """Golden: other draws would be another training run under the same key."""
    noise, t = draw(seed=7, sample_digest="ab" * 32, epoch=3, shape=(2, 16))
    torch.testing.assert_close(t, torch.tensor(0.20616477727890015))
    torch.testing.assert_close(noise[0, :3], torch.tensor([-0.12992817, -0.59743607, -0.13467367]))
    torch.testing.assert_close(noise[1, -1], torch.tensor(0.69281512))


def test_noise_is_standard_normal_and_t_uniform():
    noise, _ = draw(0, "a", 0, (100_000,))
    t = torch.stack([draw(0, "a", epoch, (1,))[1] for epoch in range(2000)])
    assert abs(noise.mean()) < 0.01
    assert abs(noise.std() - 1) < 0.01
    assert abs(t.mean() - 0.5) < 0.02
    assert abs(t.std() - 12**-0.5) < 0.02


def test_seed_sample_and_epoch_each_change_the_draw():
    draws = [draw(seed, sample, epoch, (4,)) for seed in (0, 1) for sample in ("a", "b") for epoch in (0, 1)]
    assert len({t.item() for _, t in draws}) == 8
    assert len({tuple(noise.tolist()) for noise, _ in draws}) == 8


def test_draw_leaves_the_global_generator_alone():
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    draw(0, "a", 0, (4,))
    assert torch.equal(torch.rand(1), expected)


@settings(max_examples=25, deadline=None)
@given(digests, st.integers(0, 5))
def test_an_epoch_visits_every_sample_once(digests, epoch):
    assert sorted(epoch_order(0, epoch, digests)) == list(range(len(digests)))


@settings(max_examples=25, deadline=None)
@given(digests, st.randoms(use_true_random=False))
def test_order_does_not_depend_on_the_place_in_the_shards(digests, random):
    moved = random.sample(digests, len(digests))
    assert [digests[i] for i in epoch_order(1, 2, digests)] == [moved[i] for i in epoch_order(1, 2, moved)]


@settings(max_examples=25, deadline=None)
@given(digests)
def test_a_further_sample_leaves_the_others_in_their_order(digests):
    with_another = [digests[i] if i < len(digests) else None for i in epoch_order(1, 2, [*digests, "another"])]
    assert [digest for digest in with_another if digest] == [digests[i] for i in epoch_order(1, 2, digests)]


def test_epochs_differ_in_their_order():
    names = [str(i) for i in range(20)]
    assert epoch_order(0, 0, names) != epoch_order(0, 1, names)
    assert epoch_order(0, 0, names) != epoch_order(1, 0, names)


@settings(max_examples=25, deadline=None)
@given(digests, st.integers(1, 7), st.integers(1, 30))
def test_batch_size_changes_no_visit(digests, batch_size, total):
    one_by_one = visits(0, digests, 0, total)
    in_batches = [visit for start in range(0, total, batch_size) for visit in visits(0, digests, start, batch_size)]
    assert in_batches[:total] == one_by_one


def test_a_batch_larger_than_the_data_goes_on_with_the_next_epoch():
    assert [visit.epoch for visit in visits(0, ["a", "b", "c"], 2, 5)] == [0, 1, 1, 1, 2]


@settings(max_examples=25, deadline=None)
@given(digests, st.integers(1, 9), st.integers(1, 7))
def test_the_epochs_of_a_run_are_those_that_its_visits_belong_to(digests, steps, batch_size):
    config = AlignmentConfig(steps=steps, batch_size=batch_size)
    walk = visits(config.seed, digests, 0, steps * batch_size)
    for index, count in enumerate(epochs_of_run(config, digests)):
        assert sorted(visit.epoch for visit in walk if visit.index == index) == list(range(count))
