"""Classes, several at once, and values: told apart by type and shape."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from seenn.data import load_data
from seenn.data.labels import Task, as_labels, label_column, strata, task_of
from seenn.errors import DataError

CLASSES = np.arange(60) % 3
SEVERAL = np.array([[1, 0, 1], [0, 0, 0], [0, 1, 1]])[CLASSES]


@pytest.mark.parametrize("kind", [int, float, bool])
def test_one_hot_rows_are_classes(kind: type) -> None:
    assert as_labels("y", np.eye(3)[CLASSES].astype(kind)).tolist() == CLASSES.tolist()


@pytest.mark.parametrize(
    ("labels", "task", "shape"),
    [
        (CLASSES, "classes", (60,)),
        (CLASSES[:, None], "classes", (60,)),
        (CLASSES > 0, "classes", (60,)),
        (SEVERAL, "multi-label", (60, 3)),
        (SEVERAL.astype(np.float32), "multi-label", (60, 3)),
        ((CLASSES > 0).astype(np.float32), "classes", (60,)),
        ((CLASSES > 0).astype(float)[:, None], "classes", (60,)),
        (CLASSES.astype(float), "regression", (60,)),
        (np.random.default_rng(0).normal(size=(60, 2)), "regression", (60, 2)),
    ],
)
def test_the_type_says_the_task(labels: np.ndarray, task: Task, shape: tuple[int, ...]) -> None:
    found = as_labels("y", labels)
    assert task_of(found) == task
    assert tuple(found.shape) == shape
    assert len(strata(found)) == len(label_column(found)) == 60


def test_fingerprints_see_labels_that_are_no_classes() -> None:
    several = as_labels("y", SEVERAL)
    changed = several.clone()
    changed[0, 1] = ~changed[0, 1]
    assert (label_column(several) != label_column(changed)).sum() == 1


def test_data_without_classes_are_dealt_but_no_figures_are_made_of_them(tmp_path: pytest.TempPathFactory) -> None:
    values = np.random.default_rng(0).normal(size=(60, 4))
    np.savez(tmp_path / "a.npz", X=values, y=values.sum(1))  # type: ignore[operator]
    splits = load_data(f"npz:{tmp_path}/a.npz")
    assert splits.train.task == "regression"
    assert splits.train.batch().labels is not None
    assert torch.equal(splits.test.labels, splits.test.batch().known_labels)
    with pytest.raises(DataError, match="has regression labels, and this needs classes"):
        splits.test.check_classes(1)


VALUES, YES_OR_NO = np.linspace(0, 1, 60), (np.arange(60) % 2).astype(np.float64)
SEVERAL, ONE_EACH = np.arange(60)[:, None] >> np.arange(3) & 1, np.eye(3, dtype=np.int64)[np.arange(60) % 3]


@pytest.mark.parametrize(
    ("train", "test", "task"),
    [
        (VALUES, YES_OR_NO, "regression"),
        (YES_OR_NO, VALUES, "regression"),
        (SEVERAL, ONE_EACH, "multi-label"),
        (ONE_EACH, SEVERAL, "multi-label"),
        (YES_OR_NO, YES_OR_NO, "classes"),
    ],
)
@pytest.mark.parametrize("form", ["parts", "npz"])
def test_the_parts_of_a_data_set_say_the_same(
    train: np.ndarray, test: np.ndarray, task: Task, form: str, tmp_path: Path
) -> None:
    samples = np.random.default_rng(0).random((2, 60, 4)).astype(np.float32)
    np.savez(tmp_path / "a.npz", x_train=samples[0], y_train=train, x_test=samples[1], y_test=test)
    parts = {"train": (samples[0], train), "test": (samples[1], test)}
    splits = load_data(parts if form == "parts" else f"npz:{tmp_path / 'a.npz'}")
    assert {split.task for split in (splits.train, splits.calibration, splits.exit, splits.test)} == {task}
    assert splits.test.labels.numpy() == pytest.approx(test)
