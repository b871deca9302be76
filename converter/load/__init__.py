"""Classifiers by name, with their weights, ready to convert or to train."""

from converter.load.classes import parse_classes, read_class_names
from converter.load.model import build_model, load_model, model_to_train
from converter.load.sources import check_name
from converter.load.spec import LoadedModel, ModelSpec, parse_model_kwargs

__all__ = [
    "LoadedModel",
    "ModelSpec",
    "build_model",
    "check_name",
    "load_model",
    "model_to_train",
    "parse_classes",
    "parse_model_kwargs",
    "read_class_names",
]
