"""Leaving the toolkit: files that other programs run, each compared with the network before it is kept.

One file a format in ``seenn.export.formats``. Importing this imports neither torch nor any format.
"""
