"""ONNX classifiers as torch graphs, compared with what onnxruntime computes."""

from converter.onnx_import.importer import ImportedModel, import_onnx

__all__ = ["ImportedModel", "import_onnx"]
