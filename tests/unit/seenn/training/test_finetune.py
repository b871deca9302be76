"""Fine-tuning with exits in the loop, on a tiny network."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.nn import functional as F

import seenn
from seenn.batch import Batch
from seenn.core.graph import INPUT, Node, OpGraph
from seenn.core.network import SpikingNetwork
from seenn.core.ops import Conv2d, Flatten, IFNeuron, LIFNeuron, Linear
from seenn.data import DataSplits
from seenn.data.encoding import PoissonEncoding
from seenn.errors import TrainingError
from seenn.exits import ConfidenceExit
from seenn.snn import SNN
from seenn.training import DirectConfig, FinetuneConfig, OptimConfig, OverTime, TrainConfig, exit_aware_loss, finetune
from seenn.training.direct import summed
from seenn.training.finetune import default_train_config, finetuned_snn
from seenn.training.loop import accuracies


@pytest.fixture
def network() -> SpikingNetwork:
    random = torch.Generator().manual_seed(0)

    def weight(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=random) / 4

    nodes = [
        Node("conv", Conv2d(weight(8, 1, 3, 3), torch.zeros(8)), (INPUT,)),
        Node("act1", IFNeuron(torch.ones(8), levels=4), ("conv",)),
        Node("mix", Conv2d(weight(8, 8, 3, 3), torch.zeros(8), stride=2), ("act1",)),
        Node("act2", IFNeuron(torch.ones(8)), ("mix",)),
        Node("flatten", Flatten(), ("act2",)),
        Node("head", Linear(weight(10, 32), torch.zeros(10)), ("flatten",)),
    ]
    return SpikingNetwork(OpGraph(nodes, "head"), (1, 8, 8)).requires_grad_(False)


def over_time(network: SpikingNetwork, timesteps: int, **options: Any) -> OverTime:
    return OverTime(network, DirectConfig(timesteps=timesteps, **options))


def config(epochs: float = 2, **changes: Any) -> FinetuneConfig:
    train = TrainConfig(epochs=epochs, batch_size=64, optim=OptimConfig(lr=0.1))
    return FinetuneConfig(**{"train": train, "distil": 0.0, **changes})


def test_neurons_of_several_spikes_learn_at_a_lower_rate(network: SpikingNetwork, digits: DataSplits) -> None:
    burst = network.graph.replace({"act2": IFNeuron(torch.ones(8), max_spikes=3)})
    rates = [default_train_config(digits, net).optim.lr for net in (network, SpikingNetwork(burst, (1, 8, 8)))]
    assert rates == [0.05, 0.004]


def test_the_first_step_becomes_right_and_thresholds_and_membranes_move(
    network: SpikingNetwork, digits: DataSplits
) -> None:
    before = {name: t.clone() for name, t in network.state_dict().items()}
    result = finetune(network, digits, config(epochs=6))
    assert result.before[0] < 0.3 < 0.6 < result.after[0]
    assert all(torch.equal(t, before[name]) for name, t in network.state_dict().items())  # a copy was trained
    neuron = result.network.graph["act1"].op
    assert isinstance(neuron, IFNeuron)
    assert bool((neuron.v_threshold > 0).all())
    assert bool((neuron.v_threshold != 1).all())
    assert neuron.v_init.shape == (8,)
    assert bool((neuron.v_init != 0.5).any())
    assert result.after == accuracies(over_time(result.network, 2), digits.calibration, summed)


def test_the_teacher_is_the_twin_as_it_was(network: SpikingNetwork, digits: DataSplits) -> None:
    labelled, taught = (finetune(network, digits, config(distil=d)) for d in (0.0, 1.0))
    assert labelled.twin == taught.twin < 0.5
    assert taught.after[0] < labelled.after[0]  # a teacher that knows nothing teaches nothing


def test_a_network_that_leaks_has_no_teacher(network: SpikingNetwork, digits: DataSplits) -> None:
    leaky = SpikingNetwork(network.graph.replace({"act1": LIFNeuron(torch.ones(8))}), (1, 8, 8))
    result = finetune(leaky, digits, config(epochs=0.2))
    assert result.twin is None
    with pytest.raises(TrainingError, match=r"no analog twin to imitate, and distil is 0\.5: .* --distil 0"):
        finetune(leaky, digits, config(distil=0.5))


def test_a_training_that_lost_accuracy_says_so(
    network: SpikingNetwork, digits: DataSplits, caplog: pytest.LogCaptureFixture
) -> None:
    made = finetune(network, digits, config(epochs=2)).network
    assert not caplog.records
    ruin = TrainConfig(epochs=0.1, batch_size=64, optim=OptimConfig(lr=50.0))
    result = finetune(made, digits, config(train=ruin))
    assert result.after[-1] < result.before[-1]
    assert "fine-tuning lost accuracy" in caplog.text


def test_sequences_are_refused_before_any_work(network: SpikingNetwork, digits: DataSplits) -> None:
    preprocessing = replace(digits.preprocessing, mean=(0.0,), std=(1.0,))
    spikes = digits.with_preprocessing(preprocessing).with_encoding(PoissonEncoding(timesteps=2))
    with pytest.raises(TrainingError, match=r"learns from constant images, and the samples of digits are sequences"):
        finetune(network, spikes, config())


def test_loss_is_the_weighted_cross_entropy_after_every_step() -> None:
    logits = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 1, 2, 3, 0])
    weights = FinetuneConfig(timesteps=3, early=1.0).weights()
    torch.testing.assert_close(weights, torch.tensor([6.0, 3.0, 2.0]) / 11)
    found = exit_aware_loss(logits, labels, weights, teacher=logits[2], distil=0.25)
    soft = logits[2].softmax(-1)
    expected = sum(
        w * (0.75 * F.cross_entropy(x, labels) - 0.25 * (soft * x.log_softmax(-1)).sum(-1).mean())
        for w, x in zip(weights, logits, strict=True)
    )
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("timesteps", [1, 2, 5, 8])
def test_saving_memory_changes_neither_outputs_nor_gradients(network: SpikingNetwork, timesteps: int) -> None:
    images = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    network.requires_grad_(True)
    found = []
    for save_memory in (False, True):
        logits = over_time(network, timesteps, save_memory=save_memory)(Batch(images))
        gradients = torch.autograd.grad(logits.square().sum(), list(network.parameters()))
        found.append([logits, *gradients])
    assert all(map(torch.equal, *found))


@pytest.mark.parametrize("save_memory", [False, True])
def test_as_many_steps_as_are_allowed_anywhere_need_no_deep_stack(save_memory: bool) -> None:
    nodes = [
        Node("act", IFNeuron(torch.ones(2)), (INPUT,)),
        Node("flatten", Flatten(), ("act",)),
        Node("head", Linear(torch.ones(2, 2), torch.zeros(2)), ("flatten",)),
    ]
    network = SpikingNetwork(OpGraph(nodes, "head"), (2, 1, 1))
    images = torch.full((1, 2, 1, 1), 0.25)
    logits = summed(over_time(network, 1500, save_memory=save_memory), Batch(images))
    logits.sum().backward()
    assert logits.shape == (1500, 1, 2)
    torch.testing.assert_close(logits[-1] / 1500, torch.full((1, 2), 0.5), rtol=0, atol=1e-2)
    assert network.graph["head"].op.get_parameter("weight").grad is not None


def test_a_run_that_began_without_saving_memory_may_go_on_with_it() -> None:
    for kind in (FinetuneConfig, DirectConfig):
        assert kind(save_memory=True).to_record() == kind().to_record()
        assert "save_memory" not in kind().to_record()


def test_unrolling_gives_the_sum_after_every_step(network: SpikingNetwork) -> None:
    images = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    logits = summed(over_time(network, 3), Batch(images))
    assert torch.equal(logits[0], network.step(images)[0])
    torch.testing.assert_close(logits[2] / 3, network(images, 3))


def test_checkpoint_says_what_was_trained_and_forgets_the_exit(
    network: SpikingNetwork, digits: DataSplits, tmp_path: Any
) -> None:
    source = SNN(
        network=network,
        preprocessing=digits.preprocessing,
        manifest={"timesteps": 4, "source": {"name": "tiny"}, "check": {"ann_accuracy": 0.9}, "per_site": []},
        policy=ConfidenceExit(threshold=0.5),
    )
    result = finetune(network, digits, config())
    finetuned_snn(source, digits, config(), result, file={"file": "snn"}).save(tmp_path / "a.safetensors")
    read = seenn.load(tmp_path / "a.safetensors")
    assert read.timesteps == 2
    assert read.policy is None
    assert read.manifest["finetune"]["from"] == {
        "file": "snn",
        "timesteps": 4,
        "check": {"ann_accuracy": 0.9},
        "per_site": [],
    }
    assert "check" not in read.manifest
    assert read.manifest["finetune"]["accuracy_per_timestep"] == list(result.after)
    images = digits.test.images(limit=8)
    assert torch.equal(read.network(images, 2), result.network(images, 2))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"timesteps": 0}, "timesteps must be an integer from 1"),
        ({"early": -1}, r"early must be in \[0, 16\], got -1"),
        ({"distil": 1.5}, r"distil must be in \[0, 1\], got 1.5"),
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FinetuneConfig(**wrong)
