"""One file an engine; see ``seenn.runtime.engine``."""
