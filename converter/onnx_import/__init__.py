"""ONNX classifiers as torch graphs, compared with what onnxruntime computes."""

from converter.onnx_import.importer import import_onnx
from converter.onnx_import.rebuild import ImportedModel

__all__ = ["ImportedModel", "import_onnx"]
