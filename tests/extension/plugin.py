"""The plugin: importing this module registers all seven."""

from extension import data_set, engine, exit_rule, format, neuron, op, recipe

__all__ = ["data_set", "engine", "exit_rule", "format", "neuron", "op", "recipe"]
