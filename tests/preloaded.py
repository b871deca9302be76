"""What the processes of ``forked`` start with."""

import importlib
import pkgutil

import timm
import torch
import torch._dynamo
import torchvision

import cli
import converter
import seenn

for package in (cli, converter, seenn):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
__all__ = ["timm", "torch", "torchvision"]
