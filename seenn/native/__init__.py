"""What an engine or a training does with much memory, in one pass each: C, built by the system's compiler.

Where there is no compiler, and off the CPU, the same is done by torch operations: engines get the same numbers bit
for bit, trainings to rounding. ``load`` does not believe that but tries it.
"""

from seenn.native.cumulative import Cumulative
from seenn.native.depthwise import Depthwise
from seenn.native.firing import Firing, Joined
from seenn.native.library import load
from seenn.native.rows import RowWriter
from seenn.native.sums import WindowSums

__all__ = ["Cumulative", "Depthwise", "Firing", "Joined", "RowWriter", "WindowSums", "load"]
