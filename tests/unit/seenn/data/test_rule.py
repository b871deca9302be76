"""The split rule: disjoint, covering, stratified, and train independent of the seed."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from seenn.data.rule import divide, held_out, hold_out

label_lists = st.lists(st.integers(0, 4), min_size=12, max_size=120)
seeds = st.integers(0, 2**40)


@settings(max_examples=60)
@given(labels=label_lists, has_test=st.booleans(), seed=seeds)
def test_splits_are_disjoint_cover_everything_and_are_never_empty(labels: list[int], has_test: bool, seed: int) -> None:
    splits = divide(torch.tensor(labels), has_test=has_test, seed=seed)
    assert splits.keys() == {"train", "calibration", "exit"} | (set() if has_test else {"test"})
    assert torch.equal(torch.cat(list(splits.values())).sort().values, torch.arange(len(labels)))
    assert all(len(split) > 0 for split in splits.values())


@settings(max_examples=30)
@given(labels=label_lists, has_test=st.booleans(), seed=seeds)
def test_each_class_is_shared_out_in_proportion(labels: list[int], has_test: bool, seed: int) -> None:
    all_labels = torch.tensor(labels)
    splits = divide(all_labels, has_test=has_test, seed=seed)
    shares = {"calibration": 1 / 5} if has_test else {"train": 1 / 2, "calibration": 1 / 10, "test": 1 / 5}
    pool = all_labels[held_out(all_labels)] if has_test else all_labels
    for name, share in shares.items():
        expected = pool.bincount(minlength=5) * share
        assert ((all_labels[splits[name]].bincount(minlength=5) - expected).abs() <= 1).all()


@settings(max_examples=30)
@given(labels=label_lists, seed=seeds)
def test_train_of_a_source_with_its_own_test_part_does_not_depend_on_the_seed(labels: list[int], seed: int) -> None:
    tensor = torch.tensor(labels)
    assert torch.equal(
        divide(tensor, has_test=True, seed=seed)["train"], divide(tensor, has_test=True, seed=0)["train"]
    )


def test_the_last_sixth_in_file_order_is_held_out() -> None:
    labels = torch.arange(60) % 7
    splits = divide(labels, has_test=True, seed=3)
    assert torch.equal(splits["train"], torch.arange(50))
    assert len(splits["calibration"]) == 2
    assert len(splits["exit"]) == 8


def test_the_last_sixth_of_each_class_is_held_out_where_the_file_is_sorted_by_class() -> None:
    held = held_out(torch.tensor([0] * 12 + [1] * 6 + [2] * 6))
    assert held.nonzero().flatten().tolist() == [10, 11, 17, 23]
    assert torch.equal(held, held_out(torch.tensor([2] * 12 + [0] * 6 + [1] * 6)))


def test_another_seed_gives_other_splits_and_the_same_seed_the_same() -> None:
    labels = torch.arange(100) % 5
    first, again, other = (divide(labels, has_test=False, seed=seed) for seed in (0, 0, 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["train"], other["train"])


def test_shuffle_is_the_one_that_published_splits_were_made_with() -> None:
    labels = torch.arange(30) % 3
    assert divide(labels, has_test=True, seed=0)["exit"].tolist() == [27, 26, 25, 29]
    assert divide(labels, has_test=False, seed=0)["calibration"].tolist() == [24, 23, 28]


@settings(max_examples=60)
@given(labels=label_lists, sizes=st.integers(1, 4), has_test=st.booleans(), seed=seeds)
def test_groups_are_never_parted(labels: list[int], sizes: int, has_test: bool, seed: int) -> None:
    groups = [f"g{index // sizes}" for index in range(len(labels))]
    splits = divide(torch.tensor(labels), has_test=has_test, seed=seed, groups=groups)
    assert torch.equal(torch.cat(list(splits.values())).sort().values, torch.arange(len(labels)))
    owners = [{groups[index] for index in split.tolist()} for split in splits.values()]
    assert sum(map(len, owners)) == len(set(groups))


def test_groups_of_one_image_are_dealt_as_the_images_would_be() -> None:
    labels = torch.arange(60) % 3
    groups = [str(index) for index in range(60)]
    alone = divide(labels, has_test=True, seed=3)
    for name, split in divide(labels, has_test=True, seed=3, groups=groups).items():
        assert sorted(split.tolist()) == sorted(alone[name].tolist())


@settings(max_examples=30)
@given(labels=label_lists, share=st.integers(0, 12))
def test_what_is_held_out_has_its_share_of_every_class_in_any_order_of_the_file(labels: list[int], share: int) -> None:
    ordered = torch.tensor(sorted(labels))
    kept, held = hold_out(ordered, share)
    assert len(held) == share
    assert torch.equal(torch.cat([kept, held]).sort().values, torch.arange(len(labels)))
    expected = ordered.bincount(minlength=5) * share / len(labels)
    assert ((ordered[held].bincount(minlength=5) - expected).abs() <= 1).all()
    assert torch.equal(held, hold_out(ordered, share)[1])


@given(counts=st.lists(st.integers(1, 30), min_size=1, max_size=8))
def test_of_a_part_that_is_sorted_by_class_the_end_of_each_class_is_held_out_a_sixth_in_all(counts: list[int]) -> None:
    held = held_out(torch.arange(len(counts)).flip(0).repeat_interleave(torch.tensor(counts)))
    assert int(held.sum()) == sum(counts) // 6
    for of_class in held.split(counts):
        assert torch.equal(of_class, of_class.sort().values)
        assert abs(int(of_class.sum()) - len(of_class) / 6) < 1


def test_many_classes_are_sorted_as_few_are() -> None:
    held = held_out(torch.arange(300).repeat_interleave(12))
    assert held.view(300, 12).sum(1).tolist() == [2] * 300
