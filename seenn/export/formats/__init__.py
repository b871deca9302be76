"""One file a format; see ``seenn.export.exporter``."""
