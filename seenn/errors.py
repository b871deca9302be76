"""What can go wrong, as one tree.

::

    SeennError
    ├── UnsupportedError      a node, module or option that cannot be expressed; lists every offender
    ├── ConversionError       an ANN that cannot become a spiking network, or that diverged from it
    │   └── CalibrationError  calibration data or statistics that cannot give a threshold
    ├── CheckpointError       a file that is damaged, foreign, hostile or of another architecture
    │   └── OutputError       a file that cannot be written: no space, no permission, no folder
    ├── ExportError           an exported file that its reader does not run as the network runs
    ├── DataError             images, labels or splits that are missing, malformed or overlap
    │   └── InputError        a sample that a network cannot take
    ├── ModelError            an unknown model name, or a factory that did not return a module
    ├── PluginError           an unknown name of a rule, engine or data set, or a plugin that cannot be imported
    ├── TrainingError         a loss that became NaN or infinite
    └── ArgumentError         any of these, where what was asked for by name does not exist, or is of a wrong type

Wrong arguments (a threshold of 2, a negative timestep) raise ``ValueError`` or ``TypeError`` as usual in
Python, and an ``ArgumentError`` is a ``ValueError``, too. The command line turns every one of these into one line on
stderr and an exit code: 2 for wrong arguments, else 1.

A message says where, what was got, what was expected and what to do next.
"""

from __future__ import annotations

import difflib
import textwrap
from collections.abc import Iterable


class SeennError(Exception):
    """Base of every failure that seenn reports on purpose."""


class UnsupportedError(SeennError):
    """Something outside the closed op set; the message lists all offenders at once."""


class ConversionError(SeennError):
    """The source network cannot be converted, or its conversion does not agree with it."""


class CalibrationError(ConversionError):
    """Calibration data or its statistics do not determine a threshold."""


class CheckpointError(SeennError):
    """A weights file or checkpoint cannot be read, or does not fit."""


class OutputError(CheckpointError, OSError):
    """A file cannot be written; what was there before is intact."""


class ExportError(SeennError):
    """What an exported file's reader computes is not what the network does; the file was not kept."""


class DataError(SeennError):
    """Images, labels or splits are missing, malformed or overlapping."""


class InputError(DataError, ValueError):
    """A sample that a network cannot take: its shape, type, values or number of frames."""


class ModelError(SeennError):
    """A model cannot be found or built."""


class PluginError(SeennError):
    """Nothing is registered under a name, or a plugin cannot be imported."""


class ArgumentError(SeennError, ValueError):
    """An argument names what does not exist, or what the thing that it is for does not take."""


class DataArgumentError(DataError, ArgumentError):
    """There is no such data set, or it does not take what it was given."""


class DataTypeError(DataArgumentError, TypeError):
    """Something that is no data, or no samples, given as such."""


class ModelArgumentError(ModelError, ArgumentError):
    """There is no such model, or it does not take what it was given."""


class CheckpointTypeError(CheckpointError, ArgumentError, TypeError):
    """Something that is no path of a file, given as one."""


class FileNameError(CheckpointError, ArgumentError):
    """A file's name promises another kind than what is written."""


class ModelTypeError(ModelArgumentError, TypeError):
    """Something that is no model, given as one."""


class UnknownNameError(PluginError, ArgumentError):
    """Nothing is registered under a name."""


class TrainingError(SeennError):
    """Training cannot go on: the loss is not finite. The weights of the step before are untouched."""


def did_you_mean(name: str, choices: Iterable[str], *, limit: int = 3) -> str:
    """``" Did you mean 'resnet18'?"``, or the choices themselves when they are few, or to look again."""
    names = sorted(choices)
    near = difflib.get_close_matches(name, names, n=limit, cutoff=0.6)
    if near:
        return f" Did you mean {' or '.join(repr(n) for n in near)}?"
    if len(names) <= 12:
        return f" Choose one of {', '.join(names)}."
    return " Check its spelling."


def listed(names: Iterable[str], *, most: int = 8) -> str:
    """The first names, and how many more there are, in one line."""
    known = [" ".join(name.split()) for name in names]
    return ", ".join(known[:most]) + f" and {len(known) - most} more" * (len(known) > most)


def kind_of(value: object) -> str:
    """What kind of thing a value is, with its article: ``"an int"``."""
    kind = type(value).__name__
    return f"{'an' if kind[0] in 'AEIOUaeiou' else 'a'} {kind}"


def first_line(error: Exception) -> str:
    """Type and first line of the message, to be quoted in another error; a long one is cut off."""
    line = (str(error).strip().splitlines() or [repr(error)])[0]
    return f"{type(error).__name__}: {textwrap.shorten(line, 160, placeholder=' …')}"
