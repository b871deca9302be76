"""MNIST and Fashion-MNIST: where the files may lie, and every way they can be bad."""

from __future__ import annotations

import gzip
import hashlib
import struct
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torchvision import datasets

from seenn.data import Request, load_data
from seenn.data.idx import FILES
from seenn.data.sets.fashion_mnist import FASHION_MNIST
from seenn.errors import DataError

TRAIN, TEST = 72, 10


def encode(array: NDArray[np.uint8]) -> bytes:
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def contents() -> dict[str, bytes]:
    random = np.random.default_rng(0)
    arrays = [
        random.integers(0, 256, (TRAIN, 28, 28)),
        np.arange(TRAIN) % 10,
        random.integers(0, 256, (TEST, 28, 28)),
        np.arange(TEST) % 10,
    ]
    return {name: encode(array.astype(np.uint8)) for name, array in zip(FILES, arrays, strict=True)}


def write(folder: Path, *, compress: bool = False) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents().items():
        if compress:
            (folder / f"{name}.gz").write_bytes(gzip.compress(content))
        else:
            (folder / name).write_bytes(content)
    return folder


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("layout", ["", "FashionMNIST/raw"])
def test_files_are_read_plain_or_gzipped_in_either_layout(tmp_path: Path, compress: bool, layout: str) -> None:
    write(tmp_path / layout, compress=compress)
    splits = load_data("fashion-mnist", data_dir=str(tmp_path))
    assert (len(splits.train), len(splits.test)) == (60, TEST)
    assert splits.class_names[9] == "Ankle boot"
    stored = np.frombuffer(contents()[FILES[2]][16:], dtype=np.uint8).reshape(TEST, 1, 28, 28)
    raw = torch.stack([splits.test.raw(index) for index in range(TEST)])
    assert torch.equal(raw, torch.from_numpy(stored.copy()))
    assert (splits.preprocessing.mean, splits.preprocessing.std) == ((0.2860,), (0.3530,))


def test_without_a_folder_the_system_package_is_read(tmp_path: Path) -> None:
    installed = replace(FASHION_MNIST, system_dir=write(tmp_path, compress=True))
    assert len(installed(Request()).train.labels) == TRAIN


def test_files_not_found_says_where_was_looked_and_how_to_get_them(tmp_path: Path) -> None:
    (write(tmp_path) / FILES[1]).unlink()
    with pytest.raises(DataError) as caught:
        load_data("fashion-mnist", data_dir=str(tmp_path))
    message = str(caught.value)
    assert f"looked in {tmp_path} (missing: train-labels-idx1-ubyte) and {tmp_path}/FashionMNIST" in message
    for way in ("Debian package dataset-fashion-mnist", "--data-dir", "--download"):
        assert way in message


def test_mnist_without_a_folder_has_nowhere_to_look() -> None:
    with pytest.raises(DataError, match="mnist: files not found; looked in no folder; give the folder"):
        load_data("mnist")


HEADER = struct.pack(">BBBB3I", 0, 0, 8, 3, TRAIN, 28, 28)
HUGE = struct.pack(">BBBB3I", 0, 0, 8, 3, 2**32 - 1, 2**32 - 1, 2**32 - 1)


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "starts with , expected 00000803, an idx file of bytes with 3 axes: fetch it again"),
        (b"\x00\x00\x08\x01" + HEADER[4:], "starts with 00000801, expected 00000803"),
        (HEADER[:9], r"cannot be read \(error: unpack requires .*the file is damaged"),
        (HEADER + bytes(100), "declares 56,4[0-9]+ bytes of data"),
        (HUGE + bytes(100), "the header declares [0-9,]{30,} bytes of data, but at most"),
        (HEADER + bytes(TRAIN * 784 + 1), "declares 56,448 bytes of data and holds more"),
    ],
)
def test_damaged_file_is_refused(tmp_path: Path, content: bytes, message: str, compress: bool) -> None:
    write(tmp_path, compress=compress)
    name = f"{FILES[0]}.gz" if compress else FILES[0]
    (tmp_path / name).write_bytes(gzip.compress(content) if compress else content)
    with pytest.raises(DataError, match=f"{name}: .*{message}"):
        load_data("fashion-mnist", data_dir=str(tmp_path))


def test_gzip_that_inflates_to_less_than_declared_is_refused(tmp_path: Path) -> None:
    write(tmp_path, compress=True)
    random = np.random.default_rng(0).integers(0, 256, 5000, dtype=np.uint8).tobytes()
    (tmp_path / f"{FILES[0]}.gz").write_bytes(gzip.compress(HEADER + random))
    with pytest.raises(DataError, match="declares 56,448 bytes of data and holds only 5,000; fetch it again"):
        load_data("fashion-mnist", data_dir=str(tmp_path))


def test_gzip_cut_anywhere_is_refused(tmp_path: Path) -> None:
    file = write(tmp_path, compress=True) / f"{FILES[2]}.gz"
    whole = file.read_bytes()
    for length in (0, 1, 5, 15, 40, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:length])
        with pytest.raises(DataError, match=file.name):
            load_data("fashion-mnist", data_dir=str(tmp_path))


def test_images_and_labels_of_different_lengths_are_refused(tmp_path: Path) -> None:
    (write(tmp_path) / FILES[3]).write_bytes(encode(np.zeros(TEST - 1, dtype=np.uint8)))
    with pytest.raises(DataError, match=f"{FILES[2]}: 10 images but 9 labels"):
        load_data("fashion-mnist", data_dir=str(tmp_path))


def test_label_out_of_range_is_refused(tmp_path: Path) -> None:
    labels = np.full(TEST, 9, dtype=np.uint8)
    labels[4] = 10
    (write(tmp_path) / FILES[3]).write_bytes(encode(labels))
    with pytest.raises(DataError, match="1 labels are out of range, the first at index 4 is 10; expected 0 to 9"):
        load_data("fashion-mnist", data_dir=str(tmp_path))


def test_images_of_another_size_are_not_this_data_set(tmp_path: Path) -> None:
    (write(tmp_path) / FILES[2]).write_bytes(encode(np.zeros((TEST, 8, 9), dtype=np.uint8)))
    with pytest.raises(DataError, match=r"images of 8x9 pixels, but fashion-mnist has 28x28; .*npz:PATH"):
        load_data("fashion-mnist", data_dir=str(tmp_path))


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that torchvision downloads MNIST from, over HTTP on this machine."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Nothing on stderr."""

    folder = write(tmp_path / "mirror", compress=True)
    sums = [(f"{n}.gz", hashlib.md5((folder / f"{n}.gz").read_bytes()).hexdigest()) for n in FILES]
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        monkeypatch.setattr(datasets.MNIST, "mirrors", [f"http://127.0.0.1:{server.server_port}/"])
        monkeypatch.setattr(datasets.MNIST, "resources", sums)
        yield folder
        server.shutdown()
        thread.join()


def test_download_fetches_what_is_missing_and_then_needs_no_network(mirror: Path, tmp_path: Path) -> None:
    data_dir = str(tmp_path / "data")
    fetched = load_data("mnist", data_dir=data_dir, download=True)
    for file in mirror.iterdir():
        file.unlink()
    again = load_data("mnist", data_dir=data_dir, download=True)
    assert fetched.manifest() == again.manifest() == load_data("mnist", data_dir=data_dir).manifest()


def test_download_fetches_an_archive_again_that_an_interrupt_cut_short(mirror: Path, tmp_path: Path) -> None:
    raw = tmp_path / "data" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for file in mirror.iterdir():
        (raw / file.name).write_bytes(file.read_bytes()[:-9])
    assert len(load_data("mnist", data_dir=str(tmp_path / "data"), download=True).test) == TEST


def test_download_that_fails_is_one_clear_line(mirror: Path, tmp_path: Path) -> None:
    (mirror / f"{FILES[2]}.gz").write_bytes(b"not what was published")
    with pytest.raises(DataError, match=r"^mnist: download into .* failed: .*check the network") as caught:
        load_data("mnist", data_dir=str(tmp_path / "data"), download=True)
    assert "\n" not in str(caught.value)
