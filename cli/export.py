"""``seenn export``: the network for other programs, seen to run there as it runs here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cli.common import Console, command
from cli.errors import usage
from cli.groups import DataOptions, OwnPolicyOptions, SnnFile
from cli.options import COUNT, TIMESTEPS, Registered, option
from cli.output import output_file, output_folder
from seenn.errors import DataError

if TYPE_CHECKING:
    from seenn.batch import Batch
    from seenn.snn import SNN

FORMAT = Registered("export format", "seenn.export.formats", "seenn.export.exporter:FORMATS")


@dataclass(frozen=True, kw_only=True)
class ExportFile:
    """What is written, where, and on what it is compared."""

    to: str = option("Format of the file.", type=FORMAT, required=True)
    output: str | None = option("Where to write.  [default: the SNN's name with the format's ending]", short="-o")
    timesteps: int | None = option("Most steps an image gets.  [default: as the file records]", type=TIMESTEPS)
    images: int | None = option(
        "Calibration images that reader and network are compared on.  [default: 14, and 100 where labels are]",
        type=COUNT,
    )
    raw_pixels: bool = option("The file takes uint8 images [B, H, W, C] and prepares them itself.")
    reader: str | None = option(
        "The program that is to read the file; where its packages are another Python's, NAME=/path/to/python.",
        metavar="NAME",
    )


@command("Write the network for another program.")
def export(console: Console, file: SnnFile, options: ExportFile, own: OwnPolicyOptions, data: DataOptions) -> None:
    """Write the spiking network SNN for another program.

    The file is loaded with its reader and run before it is kept: spikes, outputs and exits must be the network's.
    Everything that the format cannot hold is listed at once, and nothing is written.
    """
    from seenn.export.exporter import FORMATS, ExportOptions, check_options
    from seenn.export.exporter import export as write

    snn = file.load()
    chosen = FORMATS.get(options.to)
    target = options.output or Path(file.snn).stem + chosen.suffix
    path = output_folder(target) if chosen.is_folder else output_file(target, kind=Path(f"snn{chosen.suffix}").suffix)
    with usage():
        asked = ExportOptions(raw_pixels=options.raw_pixels, reader=options.reader)
        check_options(options.to, asked)
    images, inputs = _inputs(console, snn, data, options.images or chosen.images)
    found = write(snn, path, options.to, images=images, inputs=inputs, timesteps=options.timesteps, options=asked)
    rows = [f"{name.replace('_', ' ')}: {_shown(value)}" for name, value in found.compared.items()]
    console.answer(
        found.to_json(),
        f"{found.path}: {options.to}, run by {found.reader} on {found.inputs}",
        *(f"  {row}" for row in rows),
    )


def _inputs(console: Console, snn: SNN, data: DataOptions, count: int) -> tuple[Batch | None, str]:
    """Calibration images of the network's data; none where those cannot be read and nobody asked for them."""
    try:
        if data.data is None and "data" not in snn.manifest:
            return None, ""
        split = data.splits(snn.manifest, snn.preprocessing).calibration
    except DataError as error:
        if data.data is not None or data.data_dir is not None:
            raise
        console.say(f"compared on random pixels, as the recorded data cannot be read: {error}")
        return None, ""
    return split.batch(limit=count), f"{split.spec}, calibration split"


def _shown(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_shown(own)}" for name, own in value.items())
    return f"{value:.3g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)
