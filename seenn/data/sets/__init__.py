"""The data sets that are known by name, one file each; see :mod:`seenn.data.registry`."""
