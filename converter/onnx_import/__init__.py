"""ONNX classifiers as torch graphs, proven equal to what onnxruntime computes."""

from converter.onnx_import.importer import ImportedModel, import_onnx

__all__ = ["ImportedModel", "import_onnx"]
