"""``onnx-step``: two graphs, one that runs once an image and one that runs once a step; the host loops."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from seenn.export.about import stepwise
from seenn.export.exporter import FORMATS, Format, Subject
from seenn.export.graphs import onnx_model
from seenn.export.ort import READER, Runner, judge_steps
from seenn.export.parts import Encode, Step, example

ENCODE, STEP, ABOUT = "encode.onnx", "step.onnx", "network.json"


class _OnnxStep(Format):
    suffix = "-onnx"
    packages, extra = ("onnx", "onnxscript", "onnxruntime"), "onnx"
    takes = ("raw_pixels",)

    def write(self, subject: Subject, path: Path) -> None:
        for name, part in ((ENCODE, Encode(subject)), (STEP, Step(subject))):
            (path / name).write_bytes(onnx_model(part, example(part, subject)).SerializeToString())
        (path / ABOUT).write_text(json.dumps(stepwise(subject), indent=2) + "\n", encoding="utf-8")

    def verify(self, subject: Subject, path: Path) -> tuple[str, Mapping[str, Any]]:
        encode, step = Runner(path / ENCODE), Runner(path / STEP)
        return READER, judge_steps(subject, encode, step)


FORMATS.register("onnx-step")(_OnnxStep())
