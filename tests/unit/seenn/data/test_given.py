"""What a program gives as data: the same samples and labels in every form, and one line where it is none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image
from small_snn import digits_snn, tiny_snn
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from converter import convert
from seenn import SNN, load_data
from seenn.batch import Batch
from seenn.data import Preprocessing, as_split, told
from seenn.errors import CalibrationError, DataError, DataTypeError, SeennError

SAMPLES = torch.rand(40, 1, 8, 8, generator=torch.Generator().manual_seed(0))
CLASSES = torch.arange(40) % 3
PIXELS = (SAMPLES * 255).to(torch.uint8)
BATCHES = list(zip(SAMPLES.split(16), CLASSES.split(16), strict=True))


class Items(Dataset[Any]):
    def __init__(self, item: Callable[[int], Any]) -> None:
        self.item = item

    def __len__(self) -> int:
        return len(SAMPLES)

    def __getitem__(self, index: int) -> Any:
        return self.item(index)


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Any:
        return zip(SAMPLES, CLASSES, strict=True)


class Pair(NamedTuple):
    images: Any
    targets: Any


class Table:
    """As of pandas: an array for numpy, with columns by their name."""

    def __init__(self, values: Any) -> None:
        self.values, self.ndim, self.shape = values, values.ndim, values.shape

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, name: Any) -> Any:
        raise KeyError(name)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        return np.asarray(self.values, dtype)


def boxed(values: Any) -> Any:
    boxes = np.empty(len(values), dtype=object)
    boxes[:] = [value.numpy() for value in values]
    return boxes


LABELLED: dict[str, Callable[[], Any]] = {
    "pair": lambda: (SAMPLES, CLASSES),
    "named pair": lambda: Pair(SAMPLES, CLASSES),
    "arrays": lambda: (SAMPLES.numpy(), CLASSES.numpy()),
    "doubles": lambda: (SAMPLES.numpy().astype(">f8"), CLASSES.numpy()),
    "lists": lambda: (list(SAMPLES), CLASSES.tolist()),
    "list of lists": lambda: [list(SAMPLES), CLASSES.tolist()],
    "tensor and list": lambda: (SAMPLES, CLASSES.tolist()),
    "numbers in lists": lambda: (SAMPLES.tolist(), CLASSES.tolist()),
    "list of pairs": lambda: list(zip(SAMPLES, CLASSES.tolist(), strict=True)),
    "pairs of numpy": lambda: [(x.numpy(), np.int64(y)) for x, y in zip(SAMPLES, CLASSES, strict=True)],
    "generator": lambda: ((x, int(y)) for x, y in zip(SAMPLES, CLASSES, strict=True)),
    "objects": lambda: (boxed(SAMPLES), CLASSES.numpy()),
    "table": lambda: (Table(SAMPLES.numpy()), Table(CLASSES.numpy())),
    "sparse": lambda: (SAMPLES.to_sparse(), CLASSES),
    "with gradients": lambda: (SAMPLES.clone().requires_grad_(), CLASSES),
    "batch": lambda: Batch(SAMPLES, CLASSES),
    "list of Batch": lambda: [Batch(x, y) for x, y in BATCHES],
    "list of batches": lambda: BATCHES,
    "iterator of batches": lambda: iter(DataLoader(TensorDataset(SAMPLES, CLASSES), 16)),
    "dicts": lambda: [{"image": x, "label": int(y)} for x, y in zip(SAMPLES, CLASSES, strict=True)],
    "dict of arrays": lambda: {"images": SAMPLES, "labels": CLASSES},
    "dicts in batches": lambda: [{"pixel_values": x, "labels": y} for x, y in BATCHES],
    "stream": lambda: Stream(),
    "loader of a stream": lambda: DataLoader(Stream(), 16),
    "loader of dicts": lambda: DataLoader(Items(lambda i: {"pixel_values": SAMPLES[i], "label": int(CLASSES[i])}), 16),
}
ALONE: dict[str, Callable[[], Any]] = {
    "tensor": lambda: SAMPLES,
    "list": lambda: list(SAMPLES),
    "list of batches": lambda: list(SAMPLES.split(16)),
    "generator": lambda: iter(SAMPLES),
    "numbers in lists": lambda: SAMPLES.tolist(),
    "objects": lambda: boxed(SAMPLES),
    "table": lambda: Table(SAMPLES.numpy()),
    "sparse": lambda: SAMPLES.to_sparse(),
    "backwards": lambda: SAMPLES.numpy()[::-1][::-1],
    "dict": lambda: {"image": SAMPLES},
    "without labels": lambda: (SAMPLES, None),
    "loader of tuples": lambda: DataLoader(TensorDataset(SAMPLES), 16, shuffle=True),
    "loader of samples": lambda: DataLoader(Items(lambda i: SAMPLES[i]), 16),
}


@pytest.mark.parametrize("form", LABELLED)
def test_every_form_of_labelled_samples_is_the_same_data(form: str) -> None:
    split = as_split(LABELLED[form](), "test")
    assert torch.equal(split.labels, CLASSES)
    assert torch.equal(split.batch().inputs, SAMPLES)


@pytest.mark.parametrize("form", [*LABELLED, *ALONE])
def test_a_network_answers_for_the_samples_of_every_form(form: str) -> None:
    for known in (None, Preprocessing(channels=1, height=8, width=8, mean=(0.0,), std=(1.0,))):
        snn = SNN(network=tiny_snn().network, preprocessing=known)
        assert torch.equal(snn.batch((LABELLED | ALONE)[form]()).inputs, SAMPLES)


@pytest.mark.parametrize("form", ALONE)
def test_samples_without_labels_are_refused_where_labels_are_needed(form: str) -> None:
    snn = tiny_snn()
    with pytest.raises(DataTypeError, match=r"samples without labels: give both, a pair \(samples, labels\)"):
        snn.evaluate(ALONE[form]())
    with pytest.raises(DataTypeError, match="calibrate_exit needs their labels as well, a pair"):
        snn.calibrate_exit(ALONE[form](), max_accuracy_drop=0.5)


def test_a_threshold_that_stays_needs_no_labels() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(72, 3)).eval()
    with torch.no_grad():
        net[3].bias -= net(SAMPLES).mean(0)
    snn = convert(net, SAMPLES, timesteps=4)
    others = SAMPLES.flip(3)
    found = snn.calibrate_exit(others, threshold=0.4)
    record = found.manifest["exit"]
    assert (record["threshold"], record["risk"]) == (0.4, "disagreement")
    labelled = snn.calibrate_exit((others, snn.predict(others).labels), threshold=0.4).manifest["exit"]
    assert record["accuracy"] == labelled["accuracy"]
    assert labelled["risk"] == "accuracy"


def test_labels_that_are_names_are_those_of_the_network() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(72, 3)).eval()
    with torch.no_grad():
        net[3].bias -= net(SAMPLES).mean(0)
    numbers = net(SAMPLES).argmax(1).tolist()
    words = [("ant", "bee", "cow")[number] for number in numbers]
    snn = convert(net, (SAMPLES, words), timesteps=4, levels=31)
    assert snn.class_names == ("ant", "bee", "cow")
    assert snn.manifest["check"]["ann_accuracy"] == 1.0
    last = [index for index, word in enumerate(words) if word != "ant"]
    some = (SAMPLES[last].flip(3), np.array(words, dtype=object)[last])
    assert snn.evaluate(some).accuracy == snn.evaluate((some[0], CLASSES.new_tensor(numbers)[last])).accuracy
    with pytest.raises(DataError, match="names that are not of the network, whose names are ant, bee, cow: dog; give"):
        snn.evaluate((SAMPLES, ["dog"] * 40))
    with pytest.raises(DataError, match="names that are not of the network, which records no names: ant, bee, cow"):
        convert(net, SAMPLES, timesteps=2).evaluate((SAMPLES, words))
    with pytest.raises(CalibrationError, match=r"gives 3 scores, .* has labels of 2 names: give numbers in the order"):
        convert(net, some, timesteps=2)


def test_a_mapping_of_parts_is_a_data_set_and_no_part_of_one() -> None:
    parts = {"train": (SAMPLES[:30], CLASSES[:30]), "test": (SAMPLES[30:], CLASSES[30:])}
    splits = load_data(parts)
    assert torch.equal(splits.test.images(), SAMPLES[30:])
    with pytest.raises(CalibrationError, match="python:dict has 40 images, of which 1 calibrate: too few"):
        convert(nn.Sequential(nn.Flatten(), nn.Linear(64, 3), nn.ReLU()), parts)
    with pytest.raises(
        DataError, match=r"the data have the parts train and test, and one is needed: give data\['test'\]"
    ):
        tiny_snn().evaluate(parts)


def test_conversion_takes_pairs_batches_and_generators() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(72, 3)).eval()
    expected = convert(net, SAMPLES, timesteps=2).network.graph.fingerprint()
    for form in ("list of batches", "loader of tuples", "generator", "sparse", "list"):
        assert convert(net, ALONE[form](), timesteps=2).network.graph.fingerprint() == expected
    expected = convert(net, (SAMPLES, CLASSES), timesteps=2, force=True).network.graph.fingerprint()
    for form in ("list of pairs", "lists", "list of batches", "loader of dicts", "generator"):
        assert convert(net, LABELLED[form](), timesteps=2, force=True).network.graph.fingerprint() == expected


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_pairs_are_taken(dtype: torch.dtype) -> None:
    split = as_split((SAMPLES.to(dtype), CLASSES), "test")
    assert torch.equal(split.batch().inputs, SAMPLES.to(dtype).float())


def test_two_samples_are_no_pair_of_samples_and_labels() -> None:
    snn = SNN(network=tiny_snn().network)
    for two in ([SAMPLES[0], SAMPLES[1]], [SAMPLES[0, 0], SAMPLES[1, 0]], (SAMPLES[0].numpy(), SAMPLES[1].numpy())):
        assert torch.equal(snn.batch(two).inputs, SAMPLES[:2])
    one = (SAMPLES[0], 2)  # of a data set
    assert torch.equal(snn.batch(one).inputs, SAMPLES[:1])
    assert as_split([one, one], "test").labels.tolist() == [2, 2]
    assert as_split({"image": SAMPLES[0], "label": 2}, "test").labels.tolist() == [2]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for index in range(6):
        place = tmp_path / "pictures" / f"c{index % 2}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(PIXELS[index, 0].numpy()).save(place / f"{index}.png")
    return tmp_path / "pictures"


def test_pictures_are_named_by_paths_of_either_kind_and_by_their_folder(folder: Path) -> None:
    snn = tiny_snn()
    files = sorted(folder.rglob("*.png"))
    expected = snn.batch(PIXELS[[0, 2, 4, 1, 3, 5]]).inputs
    for given in (folder, str(folder), files, [str(file) for file in files], [Image.open(file) for file in files]):
        assert torch.equal(snn.batch(given).inputs, expected)
    for given in (files[1], str(files[1])):
        assert torch.equal(snn.batch(given).inputs, expected[1:2])
    assert [answer.label for answer in snn.stream(folder)] == snn.predict(folder).labels.tolist()
    (folder / "none").mkdir()
    with pytest.raises(DataError, match=r"none: holds no picture; expected files that end in \.bmp"):
        snn.predict(folder / "none")


def test_pairs_of_paths_and_names_make_a_data_set(folder: Path) -> None:
    pairs = [(file, file.parent.name) for file in sorted(folder.rglob("*.png"))]
    for given in (pairs, tuple(map(list, zip(*pairs, strict=True)))):
        splits = load_data(given)
        assert splits.class_names == ("c0", "c1")
        assert splits.train.batch().inputs.shape[1:] == (3, 8, 8)  # as of a folder
        assert set(splits.train.files or ()) < {file for file, _ in pairs}


def test_pictures_that_cannot_be_prepared_are_named(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((1, 2000), dtype=np.uint8)).save(tmp_path / "long.png")
    snn = tiny_snn()
    for given in (tmp_path / "long.png", [str(tmp_path / "long.png")]):
        with pytest.raises(
            DataError, match=r"long\.png: an image 2000 pixels wide and 1 high is too elongated for an input"
        ):
            snn.predict(given)
    with pytest.raises(DataError, match=r"long\.png: an image 2000 pixels wide and 1 high is too elongated"):
        as_split([(tmp_path / "long.png", 0)], "test", snn.preprocessing).batch()


def test_gray_pictures_without_their_channel_are_a_data_set() -> None:
    snn = tiny_snn()
    expected = as_split((PIXELS, CLASSES), "test", snn.preprocessing).batch().inputs
    assert torch.equal(as_split((PIXELS[:, 0].numpy(), CLASSES), "test", snn.preprocessing).batch().inputs, expected)


def test_data_that_is_named_is_loaded() -> None:
    snn, digits = digits_snn(), load_data("digits")
    assert as_split("digits", "exit", snn.preprocessing).fingerprint == digits.exit.fingerprint
    assert snn.evaluate("digits", limit=20).samples == 20
    compared = snn.compare_exits("digits", limit=20)
    assert compared.samples == snn.compare_exits(digits, limit=20).samples
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(72, 10)).eval()
    assert convert(net, "digits", timesteps=2, force=True).manifest["data"]["spec"] == "digits"
    with pytest.raises(DataError, match="digits are pictures, and nothing says how to prepare them"):
        SNN(network=snn.network).evaluate("digits")


def test_a_split_of_another_shape_is_refused() -> None:
    with pytest.raises(DataError, match=r"the test split is prepared as \[3, 8, 8\], the network takes \[1, 8, 8\]"):
        SNN(network=tiny_snn().network).evaluate((SAMPLES.expand(-1, 3, -1, -1), CLASSES))


def test_prepared_splits_stay_prepared_whatever_the_preprocessing() -> None:
    split = as_split((SAMPLES, CLASSES), "test")
    known = Preprocessing(channels=1, height=8, width=8, mean=(0.2,), std=(0.5,))
    assert torch.equal(split.with_preprocessing(known).batch().inputs, SAMPLES)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (3, "data is an int: expected the name of a data set"),
        (None, "data is a NoneType"),
        ({1, 2}, "data is a set"),
        ([], "there are no samples: the list is empty"),
        ({"picture": SAMPLES}, "the data have no samples: expected them by the name image, and labels by label"),
        ((SAMPLES, CLASSES[:5]), "40 images but 5 labels; expected one label each"),
        ((list(SAMPLES), [0, 1]), "40 images but 2 labels; expected one label each"),
        ([(SAMPLES[0], 0), (SAMPLES[1],)], "sample 1 of the data set has no label, and the first has one"),
        ([(SAMPLES[0], [0, 1]), (SAMPLES[1], [0])], "labels differ in length"),
        ((SAMPLES, [0, "cat"] * 20), "labels are of several kinds: give numbers alone, or names alone"),
        ((SAMPLES, CLASSES.to(torch.complex64).numpy()), r"labels are complex64 \[40\], expected classes"),
        ((np.ma.masked_less(SAMPLES.numpy(), 0.5), CLASSES), "values are masked: fill them in"),
        ((torch.zeros(9, 1, 8, 8, device="meta"), CLASSES), "on the meta device, where there are no values"),
        ((SAMPLES.to(torch.complex64), CLASSES), "images are complex64"),
        (load_data("digits"), "digits is in four splits, and one is needed: give data.test"),
    ],
)
def test_what_is_no_data_is_refused_in_one_line(data: Any, message: str) -> None:
    with pytest.raises(SeennError, match=message) as refused:
        as_split(data, "given")
    assert "\n" not in str(refused.value)


def test_a_batch_of_frames_is_no_data_set() -> None:
    with pytest.raises(DataError, match="a batch of frames over time is no data set"):
        told(Batch(SAMPLES[None], CLASSES, is_sequence=True))


class Unsized(Dataset[Any]):
    """Says where it ends by IndexError alone, as Python's sequences may."""

    def __init__(self, size: int = 40) -> None:
        self.size = size

    def __getitem__(self, index: int) -> Any:
        if index >= self.size:
            raise IndexError(index)
        return SAMPLES[index % 40], int(CLASSES[index % 40])


@pytest.mark.parametrize("size", [1, 2, 3, 31, 32, 33, 40])
def test_a_data_set_without_a_length_ends_where_it_raises_index_error(size: int) -> None:
    loader: DataLoader[Any] = DataLoader(Unsized(size), batch_size=2, shuffle=False)
    for data in (Unsized(size), loader):
        split = as_split(data, "test").batch()
        assert torch.equal(split.inputs.reshape(-1, 1, 8, 8), SAMPLES[:size])
        assert torch.equal(split.known_labels, CLASSES[:size])


def test_a_data_set_without_a_length_or_an_end_is_refused_in_one_line() -> None:
    for size, message in ((0, "the data set is empty"), (1 << 60, "does not say how long it is, and has a sample 2,1")):
        with pytest.raises(DataError, match=message) as refused:
            told(Unsized(size))
        assert "\n" not in str(refused.value)


FOUR = Preprocessing(channels=4, height=6, width=6, mean=(0.5,) * 4, std=(0.25,) * 4)


@pytest.mark.parametrize("form", ["an array", "a list", "pictures"])
def test_four_channels_are_read_of_samples_with_labels_too(form: str) -> None:
    pixels = torch.randint(0, 256, (40, 4, 6, 6), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    pictures = [Image.fromarray(image.permute(1, 2, 0).numpy(), "RGBA") for image in pixels]
    samples = {"an array": pixels, "a list": list(pixels), "pictures": pictures}[form]
    split = as_split((samples, [i % 2 for i in range(40)]), "test", FOUR)
    assert torch.equal(split.images(), FOUR.prepare(pixels))


@pytest.mark.parametrize("form", ["an array", "a list", "pictures"])
def test_raw_samples_without_labels_are_remembered_as_those_with_labels(form: str) -> None:
    pixels = torch.randint(0, 256, (40, 1, 6, 6), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    pictures = [Image.fromarray(image[0].numpy()) for image in pixels]
    samples = {"an array": pixels, "a list": list(pixels), "pictures": pictures}[form]
    gray = Preprocessing(channels=1, height=6, width=6, mean=(0.5,), std=(0.25,))
    module = nn.Sequential(nn.Flatten(), nn.Linear(36, 8), nn.ReLU(), nn.Linear(8, 2)).eval()
    snn = convert(module, samples, preprocessing=gray, timesteps=2)
    with pytest.raises(DataError, match="shares 32 of 40 images with those that this network's calibration took"):
        snn.evaluate((pixels, [i % 2 for i in range(40)]))


def test_tokens_are_told_what_to_do_with() -> None:
    module = nn.Sequential(nn.Embedding(9, 4), nn.Flatten(), nn.Linear(24, 8), nn.ReLU(), nn.Linear(8, 2)).eval()
    with pytest.raises(
        DataTypeError, match=r"whole numbers, torch.int64, .* of tokens what the model's embedding makes"
    ):
        convert(module, torch.zeros(40, 6, dtype=torch.int64), timesteps=2)
