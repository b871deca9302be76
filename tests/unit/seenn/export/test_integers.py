"""``integers``: what is written runs with NumPy alone, and gives the int8 engine's spikes."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seenn.core.ops import LIFNeuron
from seenn.errors import ExportError, UnsupportedError
from seenn.exits import FixedExit
from seenn.export import interpreter
from seenn.export.exporter import FORMATS, random_inputs

from .conftest import MakeSnn
from .test_onnx import NEURONS, subject_of


class Watched(interpreter.Network):
    """Sees that every value fits in the bits that its buffer has."""

    def do(self, instruction: dict[str, Any], values: dict[str, Any]) -> None:
        super().do(instruction, values)
        for name, buffer in self.graph["buffers"].items():
            if name in values:
                most = 2 ** (buffer["bits"] - 1)
                assert -most <= values[name].min() <= values[name].max() < most, name


@pytest.mark.parametrize("pooling", ["max", "average"])
@pytest.mark.parametrize("name", ["if", "burst", "signed", "leaky relu", "encoder"])
def test_a_program_without_seenn_fires_the_same_spikes(
    name: str, pooling: str, make_snn: MakeSnn, tmp_path: Path
) -> None:
    snn = make_snn(NEURONS[name], pooling=pooling)
    found = snn.export(tmp_path / "snn.npz", to="integers")
    assert found.compared["differences"] == 0
    network = Watched(str(tmp_path / "snn.npz"))
    images = random_inputs(snn, 4, 5).inputs
    scale = network.graph["input"]
    pixels = np.round((images.numpy() - scale["offset"][0]) / scale["step"][0])
    _, outputs = network.run(pixels, 4)
    expected = snn.predict(images, engine="int8", policy=FixedExit()).logits_sum.numpy()
    np.testing.assert_allclose(np.sum(outputs, 0) * network.graph["output_scale"], expected, rtol=1e-6)
    weights = [values for name, values in network.arrays.items() if name.startswith("weight/block.act2.")]
    assert [values.dtype for values in weights] == [np.int8]


def test_the_interpreter_needs_nothing_but_numpy(make_snn: MakeSnn, tmp_path: Path) -> None:
    make_snn().export(tmp_path / "snn.npz", to="integers")
    alone = tmp_path / "reader.py"
    alone.write_text(Path(interpreter.__file__).read_text())
    code = "import runpy, sys; sys.argv = ['reader.py', 'snn.npz']; runpy.run_path('reader.py', run_name='__main__'); "
    code += "print(sorted({'torch', 'seenn'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["4 inputs, 4 steps, 3 sites: equal", "[]"]


def test_neurons_without_an_integer_form_are_named(make_snn: MakeSnn, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match=r"3 things .*block\.act1 \(lif_neuron\).*act3 \(lif_neuron\)"):
        make_snn(LIFNeuron).export(tmp_path / "snn.npz", to="integers")
    with pytest.raises(UnsupportedError, match="1 initial steps in float: convert with another --correction"):
        make_snn(NEURONS["cos"]).export(tmp_path / "snn.npz", to="integers")
    assert not list(tmp_path.iterdir())


def rewritten(path: Path, name: str, change: Any) -> None:
    """The file with one array changed."""
    with np.load(path) as file:
        arrays = {key: file[key] for key in file.files if key != "graph.json"}
        graph = file["graph.json"]
    arrays[name] = change(arrays[name])
    np.savez(path, **arrays)
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("graph.json", graph)


@pytest.mark.parametrize("name", ["threshold/block.act2", "weight/act3.v/0", "start/act3.v"])
def test_a_file_with_one_other_number_is_not_taken_for_the_network(
    name: str, make_snn: MakeSnn, tmp_path: Path
) -> None:
    snn = make_snn()
    path = tmp_path / "snn.npz"
    snn.export(path, to="integers")
    rewritten(path, name, lambda values: values + np.ones((), values.dtype) * (100 if "start" in name else 1))
    with pytest.raises(ExportError, match=r"the spikes of .* are not those of the test vectors"):
        FORMATS.get("integers").verify(subject_of(snn), path)


def test_a_truncated_file_is_one_clear_error(make_snn: MakeSnn, tmp_path: Path) -> None:
    snn = make_snn()
    path = tmp_path / "snn.npz"
    snn.export(path, to="integers")
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(ExportError, match="cannot run what was written"):
        FORMATS.get("integers").verify(subject_of(snn), path)
