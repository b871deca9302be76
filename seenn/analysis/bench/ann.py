"""The ANN as a user would run it: torch, onnxruntime, OpenVINO; in float32, bfloat16 and int8."""

from __future__ import annotations

import copy
import importlib
import importlib.util
import logging
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from seenn.errors import first_line

log = logging.getLogger(__name__)

Run = Callable[[Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class Contender:
    """One way to run the ANN."""

    name: str
    precision: str  # float32, bfloat16 or int8
    run: Run  # images [B, C, H, W] to scores [B, K]
    batch: int = 32  # images at once where its images/s are measured


def ann_contenders(model: nn.Module, calibration: Tensor, device: torch.device | str = "cpu") -> list[Contender]:
    """Every way that is installed; int8 is quantised per channel on ``calibration`` images.

    On another device than the CPU torch alone: the others compute on the CPU.
    """
    model, device = copy.deepcopy(model).cpu().eval(), torch.device(device)
    runs = {("torch", "float32"): _torch(model, torch.float32, device)}
    if _has_bfloat16(device):
        runs["torch", "bfloat16"] = _torch(model, torch.bfloat16, device)
    if device.type == "cpu":
        with tempfile.TemporaryDirectory() as folder:
            for precision, path in onnx_files(model, calibration, Path(folder)).items():
                runs["onnxruntime", precision] = _onnxruntime(path.read_bytes())
                if importlib.util.find_spec("openvino") is not None:
                    runs["OpenVINO", precision] = _openvino(path, precision)
    return [Contender(name=f"{tool} {kind}", precision=kind, run=run) for (tool, kind), run in runs.items()]


def _has_bfloat16(device: torch.device) -> bool:
    """Elsewhere it is emulated, and ten times slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _torch(model: nn.Module, dtype: torch.dtype, device: torch.device) -> Run:
    """Channels-last; the converter has folded the normalisation already."""
    fast = copy.deepcopy(model).to(device, dtype).to(memory_format=torch.channels_last)

    def run(images: Tensor) -> Tensor:
        with torch.inference_mode():
            scores: Tensor = fast(_channels_last(images.to(device, dtype)))
            return scores.float().cpu()

    return run


def _channels_last(values: Tensor) -> Tensor:
    """Images; signals and rows of numbers as they are."""
    return values.contiguous(memory_format=torch.channels_last) if values.dim() == 4 else values


def torch_parts(model: nn.Module) -> Callable[[Tensor], Sequence[Tensor]]:
    """A model of several outputs on the CPU, in float32."""
    fast = copy.deepcopy(model).to(memory_format=torch.channels_last)

    def run(value: Tensor) -> Sequence[Tensor]:
        with torch.inference_mode():
            found: Sequence[Tensor] = fast(_channels_last(value))
            return found

    return run


def onnx_files(
    model: nn.Module, calibration: Tensor, folder: Path, outputs: Sequence[str] = ("scores",)
) -> Mapping[str, Path]:
    """The model as ONNX, in float32 and quantised to int8 by onnxruntime; nothing where it cannot be written so."""
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._batches = iter(torch.split(calibration, 32))

        def get_next(self) -> dict[str, Any] | None:
            batch = next(self._batches, None)
            return None if batch is None else {"images": batch.numpy()}

    plain, prepared, quantized = (folder / f"{name}.onnx" for name in ("float32", "prepared", "int8"))
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch._C._jit_set_onnx_log_output_stream("stderr")  # where torch shows a graph that it fails on
        axes = {name: {0: "B"} for name in ("images", *outputs)}
        try:
            torch.onnx.export(
                model,
                (calibration[:2],),
                str(plain),
                dynamo=False,
                input_names=["images"],
                output_names=[*outputs],
                dynamic_axes=axes,
                opset_version=17,
            )
        except torch.onnx.errors.OnnxExporterError as error:
            log.warning("onnxruntime and OpenVINO are left out: this ANN has no ONNX form (%s)", first_line(error))
            return {}
    quant_pre_process(str(plain), str(prepared), skip_symbolic_shape=True)
    quantize_static(
        str(prepared),
        str(quantized),
        Reader(),
        per_channel=True,
        reduce_range=torch.backends.cpu.get_cpu_capability() == "AVX2",  # without VNNI, pairs of products saturate
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )
    return {"float32": plain, "int8": quantized}


def _onnxruntime(model: bytes) -> Run:
    run = onnxruntime_parts(model)
    return lambda images: run(images)[0]


def onnxruntime_parts(model: bytes) -> Callable[[Tensor], Sequence[Tensor]]:
    """A model of several outputs."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return lambda images: [torch.from_numpy(found) for found in session.run(None, {"images": images.numpy()})]


def _openvino(path: Path, precision: str) -> Run:
    """OpenVINO rounds to bfloat16 by itself where the CPU has it: what is called float32 here has to be."""
    openvino: Any = importlib.import_module("openvino")
    config = {"INFERENCE_NUM_THREADS": torch.get_num_threads(), "PERFORMANCE_HINT": "LATENCY"}
    if precision == "float32":
        config["INFERENCE_PRECISION_HINT"] = "f32"
    model = openvino.Core().compile_model(str(path), "CPU", config)
    request = model.create_infer_request()
    return lambda images: torch.from_numpy(np.array(request.infer([images.numpy()])[model.output(0)]))
