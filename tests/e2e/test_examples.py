"""The examples, run as a reader would run them; each test looks at what was printed."""

from __future__ import annotations

import os
import re
from pathlib import Path

import forked
import numpy as np
import pytest
from PIL import Image
from small_snn import tiny_snn

import seenn
from seenn.answers import COLUMNS

ROOT = Path(__file__).parents[2]


def run(name: str, folder: Path, *arguments: str) -> str:
    """What the example prints, from a folder that is not the repository's."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    environment = {**os.environ, "PYTHONPATH": path, "HF_HUB_OFFLINE": "1"}
    done = forked.run(ROOT / "examples" / name, *arguments, cwd=folder, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def percentages(pattern: str, text: str) -> list[float]:
    """The numbers that the pattern's group finds."""
    return [float(found) for found in re.findall(pattern, text)]


def test_convert_timm_model_ends_as_accurate_as_its_ann_and_saves_a_checkpoint(tmp_path: Path) -> None:
    text = run("convert_timm_model.py", tmp_path, "--output", "mine.safetensors")

    assert "17 activations became 17 neurons" in text
    (ann,) = percentages(r"ANN +([\d.]+) %", text)
    snn = percentages(r"SNN t=\d +([\d.]+) %", text)
    assert ann > 90
    assert len(snn) == 8
    assert abs(snn[-1] - ann) < 2
    assert "wrote mine.safetensors" in text
    checkpoint = seenn.load(tmp_path / "mine.safetensors")
    assert checkpoint.timesteps == 8
    assert checkpoint.manifest["data"]["spec"] == "digits"


def test_custom_model_converts_and_captures_the_same_network(tmp_path: Path) -> None:
    text = run("custom_model.py", tmp_path)

    (converted,) = percentages(r"converted: ([\d.]+) %", text)
    captured = percentages(r"captured t=\d: ([\d.]+) %", text)
    assert "captured: act1.v, act2.v\n" in text
    assert converted > 90
    assert len(captured) == 8
    assert captured[-1] > 90


def test_exit_with_target_keeps_its_target_on_the_exit_split_and_exits_earlier_for_more(tmp_path: Path) -> None:
    text = run("exit_with_target.py", tmp_path)

    drops = percentages(r"at most ([\d.]+) points lost", text)
    accuracy = percentages(r"exit split ([\d.]+) %", text)
    steps = percentages(r"exit split [\d.]+ % at ([\d.]+) steps", text)
    on_test = percentages(r"test split ([\d.]+) %", text)
    assert drops == [0.0, 0.5, 2.0]
    # Losing nothing is the accuracy of all 8 steps, or better; the two figures are rounded to 0.01.
    assert all(got >= accuracy[0] - drop - 0.011 for got, drop in zip(accuracy[1:], drops[1:], strict=True))
    assert steps == sorted(steps, reverse=True)
    assert 1 <= steps[-1] <= steps[0] < 8
    assert all(found > 85 for found in on_test)


def test_ray_predict_maps_contents_of_files_to_the_columns_of_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(ROOT / "examples")
    from ray_predict import Predict

    snn = tiny_snn()
    snn.save(tmp_path / "snn.safetensors")
    contents = [b"damaged"]
    for number in range(5):
        pixels = np.random.default_rng(number).integers(0, 256, (8, 8), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "a.png")
        contents.append((tmp_path / "a.png").read_bytes())
    batch = {"path": np.array(list("abcdef")), "bytes": np.array(contents, dtype=object)}
    answers = Predict(str(tmp_path / "snn.safetensors"), engine="float32", slots=2)(batch)
    assert list(answers) == list(COLUMNS)
    assert answers["path"].tolist() == list("abcdef")
    assert [error is None for error in answers["error"]] == [False, *[True] * 5]
    assert answers["label"][5] == int(snn.predict(tmp_path / "a.png", engine="float32").labels)


def test_custom_exit_stops_early(tmp_path: Path) -> None:
    text = run("custom_exit.py", tmp_path)

    (accuracy,) = percentages(r"threshold=[-\d.]+\): ([\d.]+) % after", text)
    (steps,) = percentages(r"% after ([\d.]+)", text)
    assert accuracy > 80
    assert 1 <= steps < 8


def test_an_exported_network_classifies_pictures_with_onnxruntime_alone(tmp_path: Path) -> None:
    snn = tiny_snn()
    snn.export(tmp_path / "snn.onnx", to="onnx", raw_pixels=True)
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    answer = snn.predict([Path(tmp_path, "a.png")], engine="reference")
    text = run("onnx_early_exit.py", tmp_path, "snn.onnx", "a.png")
    names = snn.class_names or tuple(map(str, range(10)))
    assert text.startswith(f"a.png: {names[int(answer.labels)]} ({float(answer.confidence):.0%}) after ")
    assert f"after {int(answer.exit_timestep)} of {snn.timesteps} steps" in text
