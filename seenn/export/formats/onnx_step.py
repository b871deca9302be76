"""``onnx-step``: two graphs, one that runs once an image and one that runs once a step; the host loops."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from seenn.export.exporter import FORMATS, Format, Subject
from seenn.export.graphs import OPSET, onnx_model
from seenn.export.ort import READER, Runner, judge_steps
from seenn.export.parts import Encode, Names, Step, example

ENCODE, STEP, ABOUT = "encode.onnx", "step.onnx", "network.json"


class _OnnxStep(Format):
    suffix = "-onnx"
    packages, extra = ("onnx", "onnxscript", "onnxruntime"), "onnx"
    takes = ("raw_pixels",)

    def write(self, subject: Subject, path: Path) -> None:
        for name, part in ((ENCODE, Encode(subject)), (STEP, Step(subject))):
            (path / name).write_bytes(onnx_model(part, example(part, subject)).SerializeToString())
        (path / ABOUT).write_text(json.dumps(about(subject), indent=2) + "\n", encoding="utf-8")

    def verify(self, subject: Subject, path: Path) -> tuple[str, Mapping[str, Any]]:
        encode, step = Runner(path / ENCODE), Runner(path / STEP)
        return READER, judge_steps(subject, encode, step)


def about(subject: Subject) -> dict[str, Any]:
    """What a host has to know to run the two graphs."""
    from seenn.exits import policy_to_json

    names = Names.of(subject.network)
    return {
        "opset": OPSET,
        "timesteps": subject.timesteps,
        "policy": policy_to_json(subject.policy),
        "preprocessing": None if subject.preprocessing is None else subject.preprocessing.to_json(),
        "raw_pixels": subject.options.raw_pixels,
        "class_names": list(subject.snn.class_names),
        "currents": list(names.currents),
        "states": [{"input": name, "output": f"next.{name}"} for name in names.states],
        "spikes": list(names.spikes),
    }


FORMATS.register("onnx-step")(_OnnxStep())
