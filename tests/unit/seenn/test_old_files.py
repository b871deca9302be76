"""Files that earlier versions wrote (of 0.1; `islands` of the time between): they load, and give the same answers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import seenn

FOLDER = Path(__file__).parents[2] / "data" / "files_0_1"
EXPECTED = json.loads((FOLDER / "expected.json").read_text(encoding="utf-8"))
CASES = [(name, engine) for name, found in EXPECTED.items() for engine in found if engine != "timesteps"]


@pytest.mark.parametrize(("name", "engine"), CASES)
def test_an_earlier_file_gives_the_same_answers_on_the_same_engine(name: str, engine: str) -> None:
    snn, expected = seenn.load(FOLDER / f"{name}.safetensors"), EXPECTED[name]
    assert snn.timesteps == expected["timesteps"]
    found = snn.predict(seenn.load_data("digits").test.images(limit=24), engine=engine)
    labels, exits, scores = (torch.tensor(expected[engine][key]) for key in ("labels", "exit_timestep", "logits_sum"))
    if engine == "int8":  # integers: the same to the last bit, whatever the machine
        assert torch.equal(found.labels, labels)
        assert torch.equal(found.exit_timestep, exits)
        assert torch.equal(found.logits_sum, scores)
        return
    same = (found.logits_sum - scores).abs().amax(-1) <= 1e-3  # a float that is rounded otherwise may flip a spike
    assert int((~same).sum()) <= 2
    assert torch.equal(found.labels[same], labels[same])
    assert torch.equal(found.exit_timestep[same], exits[same])


@pytest.mark.parametrize("name", EXPECTED)
def test_an_earlier_file_is_written_again_as_it_was_read(name: str, tmp_path: Path) -> None:
    snn = seenn.load(FOLDER / f"{name}.safetensors")
    snn.save(tmp_path / "again.safetensors")
    again = seenn.load(tmp_path / "again.safetensors")
    assert again.network.graph.fingerprint() == snn.network.graph.fingerprint()
    assert again.manifest == snn.manifest
    assert again.sections.keys() == snn.sections.keys()
    assert type(again.policy) is type(snn.policy)
