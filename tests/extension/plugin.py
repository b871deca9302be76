"""The plugin: importing this module registers all six."""

from extension import data_set, engine, exit_rule, neuron, op, recipe

__all__ = ["data_set", "engine", "exit_rule", "neuron", "op", "recipe"]
