"""Leaving the toolkit: files that other programs run, each compared with the network before it is kept."""

from seenn.export.exporter import FORMATS, Exported, ExportOptions, Format, Subject, export

__all__ = ["FORMATS", "ExportOptions", "Exported", "Format", "Subject", "export"]
