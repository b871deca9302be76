"""What the processes of ``forked`` start with."""

import importlib
import pkgutil

import cli
import converter
import seenn

for name in (
    "timm",
    "torch",
    "torch._dynamo",
    "torchvision",
    "nir",
    "matplotlib.backends.backend_agg",
    "sklearn.datasets",
):
    importlib.import_module(name)
for package in (cli, converter, seenn):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
