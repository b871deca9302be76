"""``onnx-step``: two graphs, one that runs once an image and one that runs once a step; the host loops."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from seenn.export.about import stepwise
from seenn.export.exporter import FORMATS, Format, Subject
from seenn.export.graphs import onnx_graphs
from seenn.export.ort import READER, Runner, judge_steps
from seenn.export.parts import Encode, Step


class _OnnxStep(Format):
    suffix = "-onnx"
    packages, extra = ("onnx", "onnxscript", "onnxruntime"), "onnx"
    takes = ("raw_pixels",)

    def write(self, subject: Subject, path: Path) -> None:
        graphs = onnx_graphs({"encode": Encode(subject), "step": Step(subject)}, subject)
        for name in graphs.parts:
            (path / f"{name}.onnx").write_bytes(graphs.model(name).SerializeToString())
        (path / "network.json").write_text(json.dumps(stepwise(subject), indent=2) + "\n", encoding="utf-8")

    def verify(self, subject: Subject, path: Path) -> tuple[str, Mapping[str, Any]]:
        encode, step = Runner(path / "encode.onnx"), Runner(path / "step.onnx")
        return READER, judge_steps(subject, encode, step)


FORMATS.register("onnx-step")(_OnnxStep())
