"""Files of other programs, told by their names, and how each becomes one that can be read."""

from __future__ import annotations

from pathlib import PurePath

_ONNX = "export it to ONNX and pass the file with --model: "
_TF2ONNX = f"{_ONNX}python -m tf2onnx.convert"

_ADVICE = {
    ".h5": f"a Keras file; {_TF2ONNX} --keras FILE --output net.onnx",
    ".hdf5": f"a Keras file; {_TF2ONNX} --keras FILE --output net.onnx",
    ".keras": f"a Keras file; {_ONNX}model.export('net.onnx', format='onnx')",
    ".tflite": f"a TensorFlow Lite file; {_TF2ONNX} --tflite FILE --output net.onnx",
    ".pb": f"a TensorFlow graph; {_TF2ONNX} --saved-model FOLDER --output net.onnx",
    ".pdparams": f"weights of PaddlePaddle; {_ONNX}paddle.onnx.export(model, 'net', input_spec=…)",
    ".pdmodel": f"a model of PaddlePaddle; {_ONNX}paddle2onnx --model_dir FOLDER --save_file net.onnx",
    ".mlmodel": f"a Core ML file; {_ONNX}from the program that made it",
    ".engine": f"a TensorRT engine, which holds no weights to read; {_ONNX}from the program that made it",
    ".npz": "arrays without a model; load them into a torch module and save its state_dict()",
    ".msgpack": "weights of Flax; load them into a torch module and save its state_dict()",
    ".onnx": "an ONNX file holds its own layers: pass it with --model, without --ckpt",
}
_WEIGHTS = frozenset((".bin", ".ckpt", ".pkl", ".pt", ".pth", ".safetensors", ".tar"))


def advice(suffix: str) -> str | None:
    """What a file with this ending is and what to do with it; None where the ending says nothing."""
    return _ADVICE.get(suffix.lower())


def no_model(name: str) -> str | None:
    """Why a file cannot be the model, and what to do; None for names and for files that can."""
    suffix = "" if ":" in name else PurePath(name).suffix.lower()
    if suffix in _WEIGHTS:
        return (
            f"{name} holds weights, not layers: name the architecture with --model and pass the file with --ckpt; "
            "TorchScript: torch.onnx.export makes a model of it"
        )
    return f"{name}: {_ADVICE[suffix]}" if suffix in _ADVICE and suffix != ".onnx" else None
