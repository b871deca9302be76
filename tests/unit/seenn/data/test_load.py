"""Names of data sets, the digits, and data that cannot be split."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from seenn.data import DATA_SETS, Request, Source, labelled_arrays, load_data
from seenn.data.registry import data_help
from seenn.errors import DataArgumentError, DataError

ROOT = Path(__file__).parents[4]
Write = Callable[..., str]


def test_digits_are_whole_and_span_the_8_bit_range() -> None:
    splits = load_data()
    parts = (splits.train, splits.calibration, splits.exit, splits.test)
    assert sum(map(len, parts)) == 1797
    assert splits.num_classes == 10
    images = torch.stack([splits.train.raw(index) for index in range(100)])
    assert (images.min(), images.max()) == (0, 255)


def test_measured_mean_and_std_normalise_the_train_split() -> None:
    images = load_data("digits", split_seed=4).train.images().double()
    assert abs(images.mean()) < 1e-6
    assert abs(images.std(correction=0) - 1) < 1e-6


def test_same_seed_gives_the_same_splits_and_another_gives_others() -> None:
    first, again, other = (load_data("digits", split_seed=seed).manifest() for seed in (5, 5, 6))
    assert first == again
    assert first["fingerprints"]["test"] != other["fingerprints"]["test"]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("fashion_mnist", "unknown data set 'fashion_mnist'. Did you mean 'fashion-mnist'"),
        ("zebra", "unknown data set 'zebra'. Choose one of cifar10, .*imagefolder"),
        ("npz", "data 'npz': expected npz:PATH"),
        ("imagefolder:", "expected imagefolder:PATH"),
        ("digits:8x8", "digits takes no path"),
    ],
)
def test_spec_that_cannot_be_read_says_what_can(spec: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_data(spec)


def test_help_names_every_data_set() -> None:
    assert len(DATA_SETS.names()) >= 10
    for name in (*DATA_SETS.names(), "digits", "fashion-mnist", "cifar10-dvs", "npz:PATH"):
        assert name in data_help()


def test_a_set_from_outside_is_loaded_by_its_name() -> None:
    @DATA_SETS.register("toy-of-a-test")
    def toy(request: Request) -> Source:
        return Source(train=labelled_arrays("toy", images(30)[:, None], np.arange(30) % 2), class_names=("cat", "dog"))

    splits = load_data("toy-of-a-test")
    assert (splits.class_names, splits.chiral, len(splits.train)) == (("cat", "dog"), False, 15)
    assert "toy-of-a-test" in data_help()
    with pytest.raises(DataError, match="toy-of-a-test takes no path"):
        load_data("toy-of-a-test:x")
    with pytest.raises(DataError, match="data 'toy-of-a-test' cannot be fetched"):
        load_data("toy-of-a-test", download=True)


def test_every_set_is_registered_under_the_name_of_its_file() -> None:
    sets = {name: DATA_SETS.get(name) for name in DATA_SETS.names()}
    assert all(callable(data_set) for data_set in sets.values())
    assert [name for name, data_set in sets.items() if getattr(data_set, "needs", "") == "path"] == [
        "hf",
        "imagefolder",
        "manifest",
        "npz",
    ]


def test_names_are_known_without_importing_a_heavy_library() -> None:
    program = (
        "import sys, types; package = types.ModuleType('seenn'); package.__path__ = ['seenn']; "
        "sys.modules['seenn'] = package; import seenn.data.registry; print(*{'torch', 'numpy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.split() == []


def test_digits_cannot_be_mirrored_and_clothes_can(write_npz: Write) -> None:
    assert load_data("digits").chiral
    assert not load_data(write_npz()).chiral


def test_a_path_alone_is_of_the_kind_that_lies_there(write_npz: Write, write_folder: Callable[..., Path]) -> None:
    file, folder = Path(write_npz().removeprefix("npz:")), write_folder({"cat": 8, "dog": 8})
    for path, kind in ((file, "npz"), (folder, "imagefolder")):
        for given in (path, str(path)):
            assert load_data(given).spec == f"{kind}:{path}"
            assert load_data(given).test.fingerprint == load_data(f"{kind}:{path}").test.fingerprint


def test_a_path_of_nothing_or_of_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataArgumentError, match=r"nowhere': there is no such file or folder; expected the"):
        load_data(tmp_path / "nowhere")
    (tmp_path / "a.h5").touch()
    with pytest.raises(DataArgumentError, match="is no folder, npz file or table; expected the path of one, or a name"):
        load_data(tmp_path / "a.h5")


def test_paths_that_cannot_be_are_refused() -> None:
    with pytest.raises(DataError, match=r"data 'npz:~nobody-here/a.npz': ~nobody-here/a.npz cannot be opened"):
        load_data("npz:~nobody-here/a.npz")
    with pytest.raises(DataError, match="holds a zero byte"):
        load_data("mnist", data_dir="a\0b")


def test_download_needs_a_folder() -> None:
    with pytest.raises(DataError, match=r"download needs a data_dir \(--data-dir\)"):
        load_data("cifar10", download=True)


def test_negative_seed_is_refused() -> None:
    with pytest.raises(ValueError, match="split_seed is -1, expected 0 or more"):
        load_data("digits", split_seed=-1)


def images(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 4, 4), dtype=np.uint8)


def test_too_few_images_of_one_part(write_npz: Write) -> None:
    message = r"too few images for four splits \(.*calibration 0.*\); expected at least 6 images"
    with pytest.raises(DataError, match=message):
        load_data(write_npz(images=images(5), labels=np.arange(5) % 2))
    splits = load_data(write_npz(images=images(6), labels=np.arange(6) % 2))
    assert len(splits.calibration) == 1


def test_too_few_training_images(write_npz: Write) -> None:
    def spec(count: int) -> str:
        return write_npz(
            x_train=images(count), y_train=np.arange(count) % 2, x_test=images(1, seed=1), y_test=np.array([0])
        )

    with pytest.raises(DataError, match=r"calibration 0.*expected at least 12 training images"):
        load_data(spec(11))
    assert len(load_data(spec(12)).calibration) == 1


def test_one_class_is_no_classification(write_npz: Write) -> None:
    with pytest.raises(DataError, match="only the class '0'; expected two or more"):
        load_data(write_npz(images=images(20), labels=np.zeros(20, dtype=int)))


def test_class_that_train_has_no_image_of(write_npz: Write) -> None:
    labels = np.array([0, 1] * 10 + [2, 3, 2, 3])
    with pytest.raises(DataError, match=r"classes that the train split has no image of: 2, 3; add training"):
        load_data(write_npz(x_train=images(24), y_train=labels, x_test=images(2, seed=1), y_test=np.array([0, 1])))


def test_constant_images_have_no_std(write_npz: Write) -> None:
    with pytest.raises(DataError, match=r"channels \[0\] have the same value in every pixel"):
        load_data(write_npz(images=np.full((20, 4, 4), 7, dtype=np.uint8), labels=np.arange(20) % 2))


def test_a_test_part_that_is_the_training_part_is_refused(write_npz: Write) -> None:
    both = {"x_train": images(24), "y_train": np.arange(24) % 2}
    message = "the test split of 24 images shares 20 with the train split .*, 1 with the calibration split .*, 3 with"
    with pytest.raises(DataError, match=message):
        load_data(write_npz(**both, x_test=both["x_train"], y_test=both["y_train"]))
