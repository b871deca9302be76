"""``seenn predict``: labels of image files, each with the steps it took."""

from __future__ import annotations

import click

from cli.common import Session, read_snn, verb
from cli.options import TIMESTEPS, chosen_engine, engine_json, engine_options, import_own_policy, own_policy_option


@click.command(short_help="Classify image files.")
@click.argument("snn", type=click.Path(dir_okay=False))
@click.argument("images", nargs=-1, required=True, type=click.Path(dir_okay=False))
@click.option(
    "--timesteps", "-T", type=TIMESTEPS, metavar="T", help="Most steps an image gets.  [default: as recorded]"
)
@own_policy_option
@engine_options
@verb
def predict(
    session: Session,
    snn: str,
    images: tuple[str, ...],
    timesteps: int | None,
    own_policy: str | None,
    engine: str,
    float_sites: str,
) -> None:
    """Classify image files with the spiking network SNN."""
    import torch
    from seenn.predict import predict as run

    from seenn.data.encoding import PoissonEncoding
    from seenn.errors import CheckpointError
    from seenn.exits import check_record

    import_own_policy(own_policy)
    checkpoint = read_snn(snn)
    steps = timesteps or checkpoint.timesteps
    if checkpoint.policy is not None:
        fingerprint = checkpoint.network.graph.fingerprint()
        check_record(checkpoint.manifest.get("exit"), network=fingerprint, timesteps=steps)
    if checkpoint.preprocessing is None:
        raise CheckpointError(f"{snn} does not record how images are prepared: use seenn.predict from Python")
    if "frames" in (checkpoint.manifest.get("data") or {}):
        raise CheckpointError(f"{snn} reads recordings of events, not image files: use seenn.predict from Python")
    pixels = torch.cat([checkpoint.preprocessing.read(path) for path in images])
    if (encoding := checkpoint.manifest.get("encoding")) is not None:
        pixels = PoissonEncoding.from_json(encoding)(pixels)
    network = checkpoint.network.to(session.device)
    runner = chosen_engine(session, checkpoint, engine, steps, float_sites)
    answers = run(network, pixels, checkpoint.policy, steps, engine=runner).cpu()
    recorded = checkpoint.manifest.get("class_names")
    names = recorded if isinstance(recorded, list) else []
    rows = [
        {
            "image": path,
            "label": int(label),
            "class": str(names[label]) if label < len(names) else str(int(label)),
            "confidence": float(confidence),
            "exit_timestep": network.prepass + int(t),
        }
        for path, label, confidence, t in zip(
            images, answers.labels, answers.confidence, answers.exit_timestep, strict=True
        )
    ]
    text = "\n".join(
        f"{row['image']}: {row['class']}  (confidence {row['confidence']:.3f}, {row['exit_timestep']} steps)"
        for row in rows
    )
    session.answer({"predictions": rows, "engine": engine_json(runner)}, text)
