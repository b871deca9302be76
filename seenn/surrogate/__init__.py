"""Spikes that can be trained: exact counts forwards, a surrogate's derivative backwards."""

from seenn.surrogate.fire import fire
from seenn.surrogate.shapes import SURROGATES, Arctan, Dspike, Rectangle, Sigmoid, Surrogate, Triangle

__all__ = ["SURROGATES", "Arctan", "Dspike", "Rectangle", "Sigmoid", "Surrogate", "Triangle", "fire"]
