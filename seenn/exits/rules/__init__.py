"""One exit rule a file, registered under the name of its file."""
