"""Compiled neurons against torch: every kind, layout and source; and what happens without a compiler."""

from __future__ import annotations

import copy
import hashlib
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from compiled import compiled_for
from torch import Tensor

from seenn import native
from seenn.core.graph import INPUT, Node, OpGraph
from seenn.core.network import SpikingNetwork
from seenn.core.ops import AdaptiveAvgPool2d, AvgPool2d, BatchNorm, Linear
from seenn.core.ops.membrane import Membrane
from seenn.native import Cumulative, Depthwise, Firing, Joined, RowWriter, WindowSums, cache, norm
from seenn.native.library import FLAGS, Library
from seenn.runtime import Engine, make_engine
from seenn.runtime.kernels.synapses import exact_kernels
from seenn.runtime.lowering.program import Buffer, SynapseTerm
from seenn.snn import SNN
from seenn.surrogate import SURROGATES, Dspike, Surrogate, Triangle


@pytest.fixture(scope="module")
def library() -> Library:
    return compiled_for("engine")


@pytest.fixture(scope="module")
def training() -> Library:
    return compiled_for("training")


def whole(low: int, high: int, *shape: int, seed: int = 0) -> Tensor:
    drawn = torch.randint(low, high + 1, shape, generator=torch.Generator().manual_seed(seed)).float()
    return drawn.contiguous(memory_format=torch.channels_last) if len(shape) == 4 else drawn


@pytest.mark.parametrize("shape", [(3, 5, 4, 6), (3, 17), (3, 4, 6), (1, 1, 1, 1), (2, 40, 30, 31)], ids=str)
@pytest.mark.parametrize("pattern", ["one", "per channel", "each"])
@pytest.mark.parametrize("fewest", [0, -3])
@pytest.mark.parametrize("divides", [False, True])
def test_neurons_fire_as_torch_computes_it(
    library: Library, shape: tuple[int, ...], pattern: str, fewest: int, divides: bool
) -> None:
    sample = shape[1:]
    wide = {"one": (1,), "per channel": (sample[0], *[1] * (len(sample) - 1)), "each": sample}[pattern]
    theta, gain = whole(1, 9, *wide, seed=1), whole(-9, 9, *wide, seed=2)
    v, net, source = whole(-99, 99, *shape), whole(fewest, 0, *shape, seed=3), whole(0, 3, *shape, seed=4)
    total = v + gain * source
    count = (total / theta).floor().clamp(fewest, 3)
    if fewest:
        count = torch.maximum(count, net)
    membrane, taken_back, counts = v.clone(), net.clone(), torch.full_like(v, 7)
    Firing(
        library,
        membrane,
        theta,
        None if divides else 1 / theta,
        fewest,
        3,
        taken_back=taken_back if fewest else None,
        counts=counts,
        joined=(Joined(gain=gain, source=source),),
    )()
    assert torch.equal(counts, count)
    assert torch.equal(membrane, total - count * theta)
    assert torch.equal(taken_back, net - count if fewest else net)
    assert count.numel() < 9 or len(count.unique()) > 2


@pytest.mark.parametrize("shape", [(3, 5, 4, 6), (3, 17)], ids=str)
@pytest.mark.parametrize("pattern", ["one", "per channel", "each"])
@pytest.mark.parametrize("fewest", [0, -3])
def test_fresh_samples_begin_and_currents_are_taken(
    library: Library, shape: tuple[int, ...], pattern: str, fewest: int
) -> None:
    sample = shape[1:]
    wide = {"one": (1,), "per channel": (sample[0], *[1] * (len(sample) - 1)), "each": sample}[pattern]
    theta, start, start_back = whole(1, 9, *wide, seed=1), whole(-9, 9, *wide, seed=2), whole(-5, 0, *wide, seed=3)
    v, net, fresh = whole(-99, 99, *shape), whole(fewest, 0, *shape, seed=4), torch.zeros(shape[0], dtype=torch.bool)
    currents, back = [whole(-99, 99, *shape, seed=seed) for seed in (5, 6)], {}
    membrane, taken_back, counts = v.clone(), net.clone(), torch.full_like(v, 7)
    if fewest:
        back = {"taken_back": taken_back, "start_back": start_back}
    current = torch.empty_like(v)
    firing = Firing(
        library, membrane, theta, None, fewest, 3, counts=counts, current=current, fresh=fresh, start=start, **back
    )
    for step, arriving in enumerate(currents):
        fresh.copy_(torch.arange(shape[0]) == step)  # one sample after the other is a new one
        new = fresh.view(-1, *[1] * len(sample))
        membrane[fresh], taken_back[fresh] = torch.nan, torch.nan
        current.copy_(arriving)
        firing()
        total, least = torch.where(new, start, v) + arriving, torch.where(new, start_back, net)
        count = (total / theta).floor().clamp(fewest, 3)
        count = torch.maximum(count, least) if fewest else count
        v, net = total - count * theta, least - count
        assert torch.equal(counts, count)
        assert torch.equal(membrane, v)
        assert not fewest or torch.equal(taken_back, net)
        assert not bool(current.any())


@pytest.mark.parametrize("pattern", [(5, 1, 1), (5, 4, 6)], ids=["per channel", "each"])
def test_bytes_have_margins_which_stay_as_they_are(library: Library, pattern: tuple[int, ...]) -> None:
    v, theta, gain = whole(-99, 99, 2, 5, 4, 6), whole(1, 9, *pattern, seed=1), whole(1, 3, *pattern, seed=2)
    shape = (2, 5, 6, 10)
    source, target = (
        torch.full(shape, fill, dtype=torch.uint8).contiguous(memory_format=torch.channels_last) for fill in (4, 9)
    )
    inside = source[:, :, 1:-1, 2:-2]
    inside.copy_(whole(0, 8, 2, 5, 4, 6, seed=3))
    total = v + gain * (inside.float() - 4)
    count = (total / theta).floor().clamp(-4, 4)
    joined = (Joined(gain=gain, source=inside, low=-4),)
    Firing(library, v, theta, None, -4, 4, whole=target[:, :, 1:-1, 2:-2], low=-4, joined=joined)()
    expected = torch.nn.functional.pad(count + 4, (2, 2, 1, 1), value=9)
    assert torch.equal(target.float(), expected)
    assert torch.equal(v, total - count * theta)


@pytest.mark.parametrize(("fewest", "most"), [(0, 1), (-1, 1), (0, 2), (-2, 1), (-1, 3)])
@pytest.mark.parametrize("whole_numbers", [False, True], ids=["float32", "int32"])
def test_neurons_fire_no_fewer_and_no_more_than_they_may(
    library: Library, fewest: int, most: int, whole_numbers: bool
) -> None:
    """At, just below and far from every multiple of their thresholds; in int32 beyond what float32 holds, too."""
    theta = torch.tensor([1.0, 2.0, 7.0])
    multiples = torch.arange(-5, 6).view(-1, 1, 1) * theta + torch.tensor([-1.0, 0.0]).view(1, -1, 1)
    far = 90_000_001 if whole_numbers else 8_000_001
    v = torch.cat([multiples.view(-1, 3).int(), torch.tensor([[-far, far, far]]).int()])
    v = v if whole_numbers else v.float()
    back, counts, net = v.new_zeros(v.shape).float() - 9, torch.empty(v.shape), {}
    if fewest:
        net = {"taken_back": back}
    found = v.clone()
    Firing(library, found, theta, 1 / theta, fewest, most, counts=counts, **net)()
    expected = (v.double() / theta).floor().clamp(fewest, most)
    assert torch.equal(counts.double(), expected)
    assert torch.equal(found.double(), v.double() - expected * theta)
    assert torch.equal(back.double(), -9 - expected if fewest else back.double())
    assert sorted(expected.unique().tolist()) == list(range(fewest, most + 1))


@pytest.mark.parametrize("images", [True, False], ids=["images", "flat"])
def test_samples_are_those_of_their_slots_and_what_is_kept_lies_there_too(library: Library, images: bool) -> None:
    """Two samples in slots 4 and 1 of five; one term is theirs, another the slots', a third is of bytes."""
    sample, order = ((5, 4, 6), [4, 1]) if images else ((17,), [1, 4])
    theta = whole(1, 9, *([5, 1, 1] if images else [17]), seed=1)
    v, net, kept = (whole(-20, 0, 5, *sample, seed=seed) for seed in (2, 3, 4))
    current, own, small = (whole(-9, 9, 2, *sample, seed=seed) for seed in (5, 6, 7))
    counts, fresh = torch.full_like(own, 7), torch.tensor([False, True, False, False, True])
    fresh[order[0]] = False
    start, start_back = whole(50, 60, *theta.shape, seed=8), whole(-3, -1, *theta.shape, seed=9)
    total = torch.where(fresh[order].view(-1, *[1] * len(sample)), start, v[order])
    back = torch.where(fresh[order].view(-1, *[1] * len(sample)), start_back, net[order])
    total = total + 2 * own + 3 * kept[order] + current + small
    count = torch.maximum((total / theta).floor().clamp(-9, 9), back)
    expected_v, expected_net = v.clone(), net.clone()
    expected_v[order], expected_net[order] = total - count * theta, back - count
    given = current.clone()
    Firing(
        library,
        v,
        theta,
        None,
        -9,
        9,
        taken_back=net,
        counts=counts,
        joined=(
            Joined(gain=torch.tensor([2.0]), source=own),
            Joined(gain=torch.tensor([3.0]), source=kept, kept=True),
            Joined(gain=torch.tensor([1.0]), source=(small + 9).to(torch.uint8), low=-9),
        ),
        current=given,
        fresh=fresh,
        start=start,
        start_back=start_back,
        slots=torch.tensor(order),
    )()
    assert torch.equal(counts, count)
    assert torch.equal(v, expected_v)
    assert torch.equal(net, expected_net)
    assert not bool(given.any())
    assert len(count.unique()) > 4


def test_memory_that_lies_otherwise_is_refused(library: Library) -> None:
    theta = torch.ones(5, 1, 1)
    for membrane in (whole(0, 1, 2, 5, 4, 6).double(), whole(0, 1, 2, 5, 4, 12)[..., ::2]):
        with pytest.raises(ValueError, match="memory of another layout"):
            Firing(library, membrane, theta, None, 0, 1)
    dense = whole(0, 1, 2, 5, 4, 6)
    with pytest.raises(ValueError, match="memory of another layout"):
        Firing(library, dense, theta, None, 0, 1, counts=dense.contiguous())
    with pytest.raises(ValueError, match="memory of another layout"):
        Firing(library, dense, theta, None, 0, 1, whole=torch.zeros(2, 5, 4, 6, dtype=torch.uint8))
    with pytest.raises(ValueError, match="memory of another layout"):
        RowWriter(library, [(dense, dense.contiguous())])
    with pytest.raises(ValueError, match="rows of"):
        RowWriter(library, [(dense, whole(0, 1, 1, 5, 6, 4))])


def test_values_that_are_no_images_fire_in_the_order_of_their_axes(library: Library) -> None:
    current, theta = torch.randn(2, 5, 4, 6), 0.1 + torch.rand(5, 1, 1)
    v, counts = torch.zeros_like(current), torch.zeros_like(current)
    Firing(library, v, theta, None, -3, 3, counts=counts, current=current.clone())()
    assert torch.equal(counts, (current / theta).floor().clamp(-3, 3))
    assert torch.equal(v, current - counts * theta)


@pytest.mark.parametrize("images", [True, False])
def test_functions_of_running_means_lie_as_their_values_do(images: bool, library: Library) -> None:
    made = [whole(-9, 9, 2, 5, 4, 6) for _ in range(4)]
    x, total, value, target = made if images else [values.contiguous() for values in made]
    t, expected = torch.tensor([0.0, 3.0]), (total + x) / torch.tensor([1.0, 4.0]).view(2, 1, 1, 1)
    expected = expected.softmax(-1) * torch.tensor([1.0, 4.0]).view(2, 1, 1, 1) - value
    Cumulative(library, lambda mean: mean.contiguous().softmax(-1), None, target, value, [(x, total)], t)()
    assert torch.equal(target, expected)
    assert t.tolist() == [1, 4]
    assert not Cumulative.fits(None, target, value, [(x[..., ::2], total[..., ::2])])
    assert not Cumulative.fits(None, target, value, [(x, total), (x, total)])
    assert not Cumulative.fits(2, target[:, :1], value, [(x, total), (x, total)])


def test_rows_are_written_where_they_belong(library: Library) -> None:
    images, flat = whole(0, 9, 6, 5, 4, 3), whole(0, 9, 6, 7)
    news, one = whole(10, 19, 4, 5, 4, 3), whole(10, 19, 1, 7)
    expected = images.clone(), flat.clone()
    rows = torch.tensor([4, 0, 3])
    expected[0][rows], expected[1][rows] = news[:3], one
    write = RowWriter(library, [(images, news), (flat, one)])
    write(rows)
    assert torch.equal(images, expected[0])
    assert torch.equal(flat, expected[1])
    for bad in ([6], [-1], [0, 1, 2, 3, 4]):
        with pytest.raises(ValueError, match=r"rows .* of 6"):
            write(torch.tensor(bad))


def test_samples_are_taken_from_where_they_lie(library: Library) -> None:
    target, source = whole(0, 9, 6, 5, 4, 3).to(torch.uint8), whole(10, 19, 4, 5, 4, 3).to(torch.uint8)
    expected = target.clone()
    rows, samples = torch.tensor([5, 1]), torch.tensor([0, 3])
    expected[rows] = source[samples]
    write = RowWriter(library, [(target, source)])
    write(rows, samples)
    write(rows[:0], samples[:0])
    assert torch.equal(target, expected)
    for bad in ([4, 0], [0, -1], [0]):
        with pytest.raises(ValueError, match=r"rows .* of 6"):
            write(rows, torch.tensor(bad))


@pytest.mark.parametrize(
    "op",
    [
        AvgPool2d((3, 2), (2, 2), padding=(1, 0)),
        AvgPool2d((3, 3), (2, 2), padding=(1, 1), ceil_mode=True, count_include_pad=False),
        AdaptiveAvgPool2d((2, 3)),
        AdaptiveAvgPool2d((4, 2)),
        AdaptiveAvgPool2d(),
    ],
)
def test_averages_are_added_up_from_bytes_as_torch_does(library: Library, op: AvgPool2d | AdaptiveAvgPool2d) -> None:
    framed = whole(0, 255, 3, 70, 10, 11).to(torch.uint8)
    source = framed[:, :, 1:-1, 2:-2]
    expected = op.route(source.float() - 7)
    target = torch.full_like(expected, torch.nan).contiguous(memory_format=torch.channels_last)
    WindowSums(library, source, target, *op.windows(source.shape, target.shape), -7)()
    assert torch.equal(target, expected)


def test_a_window_may_add_up_to_more_than_two_bytes_hold(library: Library) -> None:
    source = whole(255, 255, 2, 3, 40, 30).to(torch.uint8)
    source[1, 2] = 254
    target = torch.zeros(2, 3, 1, 1).contiguous(memory_format=torch.channels_last)
    WindowSums(library, source, target, [(0, 40)], [(0, 30)], 0)()
    assert target.flatten().tolist() == [1200 * 255] * 5 + [1200 * 254]


def test_windows_beyond_the_image_are_refused(library: Library) -> None:
    source, target = whole(0, 9, 2, 3, 4, 4).to(torch.uint8), whole(0, 0, 2, 3, 1, 1)
    for rows, columns in (([(0, 5)], [(0, 4)]), ([(-1, 2)], [(0, 4)]), ([(0, 1), (1, 2)], [(0, 4)])):
        with pytest.raises(ValueError, match="windows"):
            WindowSums(library, source, target, rows, columns, 0)


@pytest.mark.parametrize("size", [(3, 3), (5, 5), (2, 3), (1, 1)], ids=str)
@pytest.mark.parametrize("steps", [((1, 1), (1, 1)), ((2, 1), (1, 2)), ((1, 3), (2, 1))], ids=str)
@pytest.mark.parametrize("channels", [5, 16, 70])
@pytest.mark.parametrize("most", [8, 32, 255])  # of these times 127, int16 holds the sum of a window, of 8, and one
def test_depthwise_convolutions_add_what_torch_does(
    library: Library, size: tuple[int, int], steps: tuple[tuple[int, int], tuple[int, int]], channels: int, most: int
) -> None:
    (stride, dilation), low = steps, -7
    source = whole(most // 2, most, 3, channels, 14, 15).to(torch.uint8)[:, :, 1:-1, 2:-2]
    source[0] = most
    weight = whole(-127, 127, channels, 1, *size, seed=1)
    weight[:2] = torch.tensor([127, -127]).view(2, 1, 1, 1)
    unit, bias = whole(1, 4, channels, seed=2), whole(-99, 99, channels, seed=3)
    response = torch.nn.functional.conv2d(source.float() + low, weight, None, stride, 0, dilation, channels)
    expected = response * unit.view(-1, 1, 1) + bias.view(-1, 1, 1) + 5
    target = torch.full_like(expected, 5).contiguous(memory_format=torch.channels_last)
    run = Depthwise(library, weight, unit, bias, low, most, stride, dilation)
    run(target, source)
    assert torch.equal(target, expected)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("most", [151, 217, 255])
def test_no_sum_of_a_window_is_too_large(library: Library, most: int, sign: int) -> None:
    """Weights of 217 times bytes of 151 are int16's largest; whatever is larger is added up in int32."""
    weight = torch.full((16, 1, 3, 3), 24.0)
    weight[:, 0, 0, 0] = 25
    source = whole(most, most, 1, 16, 3, 3).to(torch.uint8)
    target, one, none = whole(0, 0, 1, 16, 1, 1), torch.ones(16), torch.zeros(16)
    assert 151 * 217 == (1 << 15) - 1
    Depthwise(library, sign * weight, one, none, 0, most, (1, 1), (1, 1))(target, source)
    assert target.flatten().tolist() == [sign * 217 * most] * 16


def test_a_depthwise_convolution_of_another_shape_is_refused(library: Library) -> None:
    one, none = torch.ones(4), torch.zeros(4)
    with pytest.raises(ValueError, match="not \\[C, 1, h, w\\]"):
        Depthwise(library, torch.ones(4, 2, 3, 3), one, none, 0, 1, (1, 1), (1, 1))
    run = Depthwise(library, torch.ones(4, 1, 3, 3), one, none, 0, 1, (1, 1), (1, 1))
    for shape, target in (((2, 4, 5, 5), (2, 4, 5, 5)), ((2, 5, 5, 5), (2, 5, 3, 3)), ((2, 4, 5, 5), (1, 4, 3, 3))):
        with pytest.raises(ValueError, match="a depthwise convolution of"):
            run(whole(0, 0, *target), whole(0, 1, *shape).to(torch.uint8))
    with pytest.raises(ValueError, match="memory of another layout"):
        run(torch.zeros(2, 4, 3, 3), whole(0, 1, 2, 4, 5, 5).to(torch.uint8))


def test_without_a_compiler_torch_does_the_same(
    library: Library, make_network: Callable[..., SpikingNetwork], images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    small, inputs = make_network().float(), images.float()
    compiled = make_engine("int8", small, timesteps=4)
    monkeypatch.setattr(native, "load", lambda part: None)
    plain = make_engine("int8", small, timesteps=4)
    assert "neurons in one pass" in compiled.note
    assert "neurons in one pass" not in plain.note
    found = []
    for engine in (compiled, plain):
        slots = engine.open(len(inputs))
        slots.load(torch.arange(len(inputs)), inputs)
        found.append(torch.stack([slots.step(torch.arange(len(inputs))) for _ in range(4)]))
    assert torch.equal(*found)


LOAD = """
import logging, sys
logging.basicConfig(format="%(levelname)s %(message)s", stream=sys.stderr)
from seenn.native import library, load
library.FLAGS = (*library.FLAGS, "-O0")  # what is tried here is not speed, and this is built often
print(load("engine") is not None)
"""


@pytest.fixture
def process(tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """Starts a process that loads the engine's code, with a cache folder and a compiler that counts its calls."""
    for name in ("cache", "tmp"):
        (tmp_path / name).mkdir(mode=0o700)
    compiler = tmp_path / "compiler"
    compiler.write_text(f"#!/bin/sh\necho $* >> {tmp_path}/calls\nexec cc $*\n")
    compiler.chmod(0o755)
    defaults = {"CC": str(compiler), "SEENN_CACHE": str(tmp_path / "cache"), "TMPDIR": str(tmp_path / "tmp")}

    def start(program: str = LOAD, **changes: str | None) -> subprocess.Popen[str]:
        environment = {name: value for name, value in (os.environ | defaults | changes).items() if value is not None}
        command = [sys.executable, "-c", program]
        return subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path
        )

    return start


def result(process: subprocess.Popen[str]) -> tuple[bool, str]:
    """Whether there was compiled code, and what was logged."""
    output, talk = process.communicate(timeout=300)
    assert process.returncode == 0, talk
    return output.strip() == "True", talk


def calls(folder: Path) -> list[str]:
    """The compiler's command lines."""
    log = folder / "calls"
    return log.read_text().splitlines() if log.exists() else []


@pytest.mark.parametrize("compiler", ["/nowhere/cc", "nowhere-cc -O2", "false", "cc 'unbalanced"])
def test_a_compiler_that_is_missing_or_fails_is_done_without_and_named_once(
    compiler: str, process: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    both = LOAD + "load('training')"
    loaded, talk = result(process(both, CC=compiler))
    assert not loaded
    assert talk.startswith("WARNING ")
    assert talk.count("\n") == 1
    assert compiler.split()[0] in talk
    assert "torch is used" in talk
    assert [*(tmp_path / "cache").iterdir(), *(tmp_path / "tmp").iterdir()] == []


def test_a_compiler_may_have_arguments_and_is_no_shell(
    library: Library, process: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    compiler = f"{tmp_path}/compiler -g0 '-DTWO WORDS' $(touch {tmp_path}/expanded) > {tmp_path}/out"
    assert result(process(CC=f"{tmp_path}/compiler -g0 -DWORD")) == (True, "")
    assert calls(tmp_path)[0].startswith("-g0 -DWORD -O2 ")
    assert not result(process(CC=compiler))[0]
    assert not (tmp_path / "expanded").exists()


def test_a_second_process_loads_what_the_first_built_without_compiling_or_testing_it(
    library: Library, process: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    assert result(process()) == (True, "")
    built = calls(tmp_path)
    assert built
    untested = "from seenn.native import firing\nfiring.matches_torch = None\n" + LOAD
    assert result(process(untested)) == (True, "")
    assert calls(tmp_path) == built
    (tmp_path / "compiler").write_text((tmp_path / "compiler").read_text() + "# another version\n")
    assert result(process()) == (True, "")
    assert len(calls(tmp_path)) > len(built)


@pytest.mark.parametrize("damage", ["truncated", "other bytes", "empty"])
def test_a_damaged_cached_file_is_built_anew(
    damage: str, library: Library, process: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    assert result(process()) == (True, "")
    (kept,) = (tmp_path / "cache").glob("engine-*")
    content = kept.read_bytes()
    kept.write_bytes({"truncated": content[:-9], "other bytes": content[:-9] + b"123456789", "empty": b""}[damage])
    before = len(calls(tmp_path))
    assert result(process()) == (True, "")
    assert len(calls(tmp_path)) > before
    (mended,) = (tmp_path / "cache").glob("engine-*")
    assert hashlib.sha256(mended.read_bytes()).hexdigest() == mended.name.rpartition("-")[2]


def test_two_processes_may_build_at_once(
    library: Library, process: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    both = [process(), process()]
    assert [result(one) for one in both] == [(True, "")] * 2
    before = len(calls(tmp_path))
    assert result(process()) == (True, "")
    assert len(calls(tmp_path)) == before
    assert not list((tmp_path / "cache").glob(".*"))


def test_the_cache_is_created_for_the_user_only_where_the_environment_says(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("SEENN_CACHE", str(tmp_path / "own"))
    assert cache.folder() == tmp_path / "own"
    monkeypatch.delenv("SEENN_CACHE")
    assert cache.folder() == tmp_path / "xdg" / "seenn"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache.folder() == tmp_path / "home" / ".cache" / "seenn"
    for made in (tmp_path / "own", tmp_path / "xdg" / "seenn", tmp_path / "home" / ".cache" / "seenn"):
        assert stat.S_IMODE(made.stat().st_mode) == 0o700
    monkeypatch.setenv("SEENN_CACHE", "")
    assert cache.folder() is None
    cache.keep("name", "key", b"content")
    assert cache.find("name", "key") is None


def test_a_cache_that_others_could_write_to_is_refused(
    library: Library, process: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    for mode in (0o777, 0o770, 0o702):
        (tmp_path / "cache").chmod(mode)
        loaded, talk = result(process())
        assert loaded
        assert talk.startswith(f"WARNING {tmp_path}/cache is not used as a cache")
        assert talk.count("\n") == 1
        assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_cache_of_another_user_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SEENN_CACHE", str(tmp_path / "cache"))
    cache.keep("name", "key", b"content")
    assert cache.find("name", "key") is not None
    os.chown(tmp_path / "cache", 12345, -1)
    assert cache.find("name", "key") is None


def test_where_nothing_can_be_written_nothing_is_cached(
    library: Library, process: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    assert result(process(SEENN_CACHE=str(tmp_path / "file" / "below"))) == (True, "")
    assert result(process(SEENN_CACHE="/proc/nothing")) == (True, "")
    assert result(process(SEENN_CACHE="")) == (True, "")
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_second_process_makes_an_engine_without_trying_kernels_or_importing_the_compiler_of_torch(
    library: Library,
    process: Callable[..., subprocess.Popen[str]],
    make_network: Callable[..., SpikingNetwork],
    tmp_path: Path,
) -> None:
    SNN(network=make_network().float()).save(tmp_path / "small.safetensors")
    program = f"""
import sys, torch
from seenn.checkpoint import load
from seenn.runtime import make_engine
from seenn.runtime.kernels import synapses
if {{second}}:
    synapses._matches_float64 = synapses.gmacs = None
engine = make_engine("int8", load("{tmp_path}/small.safetensors").network, timesteps=4)
print(engine.note)
assert not {{second}} or "torch._dynamo" not in sys.modules
"""
    notes = [process(program.format(second=second)).communicate() for second in (False, True)]
    assert notes[0] == notes[1]
    assert "neurons in one pass" in notes[0][0]


@pytest.mark.parametrize("name", ["int8", "float32", "bfloat16", "reference"])
def test_engines_can_be_copied(name: str, make_network: Callable[..., SpikingNetwork], images: Tensor) -> None:
    engine, inputs = make_engine(name, make_network().float(), timesteps=4), images.float()

    def scores(engine: Engine) -> Tensor:
        slots = engine.open(len(inputs))
        slots.load(torch.arange(len(inputs)), inputs)
        return torch.stack([slots.step(torch.arange(len(inputs))) for _ in range(4)])

    expected = scores(engine)
    copies = [copy.copy(engine), copy.deepcopy(engine), copy.deepcopy(copy.deepcopy(engine))]
    del engine
    assert all(torch.equal(scores(made), expected) for made in copies)


def test_matrix_products_that_are_rounded_on_request_are_not_taken_for_exact(
    make_network: Callable[..., SpikingNetwork], images: Tensor
) -> None:
    before, found = torch.get_float32_matmul_precision(), []
    try:
        for precision in ("highest", "medium"):
            torch.set_float32_matmul_precision(precision)
            for kernel in exact_kernels(torch.device("cpu")):
                weight = torch.arange(1, 512 * 256 + 1, dtype=torch.float64).remainder(381).view(256, 512)
                source = Buffer(name="x", shape=(512,), life="scratch", low=0, high=4)
                term = SynapseTerm(source="x", op=Linear(torch.zeros(256, 512)), weight=weight, unit=None)
                if not kernel.accepts(term, source):
                    continue
                target = torch.zeros(64, 256)
                kernel.prepare(term, source, None, 64, torch.device("cpu"))(target, torch.full((64, 512), 3.0))
                found.append(torch.equal(target.double(), (3 * weight.sum(1)).expand(64, 256)))
    finally:
        torch.set_float32_matmul_precision(before)
    assert all(found)


@pytest.mark.parametrize(
    ("file", "right", "wrong"),
    [
        ("firing.c", "v[c] = u - n", "v[c] = u + n"),
        ("unroll.c", "carried[c] = decay", "carried[c] = 1"),
        ("rows.c", "rows[k] *", "k *"),
        ("sums.c", "w->low *", "0 *"),
        ("cumulative.c", "now[c] / t", "now[c]"),
        ("depthwise.c", "sum += part", "sum = part"),
    ],
)
def test_a_library_that_computes_something_else_is_not_used(
    file: str, right: str, wrong: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, library: Library
) -> None:
    for path in Path(native.__file__).parent.glob("*.[ch]"):
        (tmp_path / path.name).write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
    text = (tmp_path / file).read_text(encoding="utf-8")
    assert right in text
    (tmp_path / file).write_text(text.replace(right, wrong), encoding="utf-8")
    monkeypatch.setenv("SEENN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("seenn.native.library.FOLDER", tmp_path)
    monkeypatch.setattr("seenn.native.library.FLAGS", (*FLAGS, "-O0"))
    assert native.load.__wrapped__("training" if file == "unroll.c" else "engine") is None
    assert list((tmp_path / "cache").iterdir()) == []


RULES = [
    Membrane(),
    Membrane(decay=0.25),
    Membrane(decay=0.9, v_reset=0.0),
    Membrane(decay=0.5, v_reset=-0.25),
    Membrane(decay=0.5, detach_reset=True),
    Membrane(decay=0.5, v_reset=0.0, detach_reset=True),
]


@pytest.mark.parametrize("rules", RULES, ids=str)
@pytest.mark.parametrize("surrogate", [make() for make in SURROGATES.values()] + [Triangle(gamma=0.5)], ids=str)
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format], ids=str)
@pytest.mark.parametrize("theta", [torch.tensor(1.0), torch.tensor([0.5, 1.0, 2.0]).view(3, 1, 1)], ids=["one", "each"])
def test_membranes_unroll_as_torch_computes_it(
    training: Library,
    rules: Membrane,
    surrogate: Surrogate,
    layout: torch.memory_format,
    theta: Tensor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    generator = torch.Generator().manual_seed(0)
    currents = torch.randn(4 * 7, 3, 5, 6, generator=generator).contiguous(memory_format=layout).unflatten(0, (4, 7))
    first = torch.randn(7, 3, 5, 6, generator=generator).contiguous(memory_format=layout)
    at_outputs, at_last = torch.randn(4, 7, 3, 5, 6, generator=generator), torch.randn(7, 3, 5, 6, generator=generator)
    found = []
    for compiled in (True, False):
        if not compiled:
            monkeypatch.setattr(native, "load", lambda part: None)
        assert (rules.compiled(first, currents, theta) is not None) == compiled
        x, v = currents.clone().requires_grad_(), first.clone().requires_grad_()
        outputs, last = rules.unroll(v, x, theta, surrogate)
        torch.autograd.backward((outputs, last), (at_outputs, at_last))
        found.append((outputs, last, x.grad, v.grad))
    assert torch.equal(found[0][0], found[1][0])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    assert 0 < int((found[0][0] > 0).sum()) < found[0][0].numel()


def test_membranes_round_once_a_step_as_torch_does(training: Library) -> None:
    currents, theta = torch.randn(4, 7, 300, generator=torch.Generator().manual_seed(0)), torch.tensor(1e9)
    rules, first = Membrane(decay=0.9), torch.zeros(7, 300)
    assert rules.compiled(first, currents, theta) is not None
    v = first
    for current in currents:
        v = torch.add(current, v, alpha=0.9)
    assert torch.equal(rules.unroll(first, currents, theta, Triangle())[1], v)


def unrolled(
    monkeypatch: pytest.MonkeyPatch, x: Tensor, theta: Tensor, surrogate: Surrogate, at_outputs: Tensor
) -> list[tuple[Tensor, Tensor]]:
    """Outputs and gradients at the currents, compiled and by torch; ``x`` and ``at_outputs`` lie as they are given."""
    found = []
    for compiled in (True, False):
        if not compiled:
            monkeypatch.setattr(native, "load", lambda part: None)
        first = torch.zeros(x.shape[1:])
        assert (Membrane().compiled(first, x, theta) is not None) == compiled
        currents = x.detach().requires_grad_()
        outputs, _ = Membrane().unroll(first, currents, theta, surrogate)
        (gradient,) = torch.autograd.grad(outputs, currents, at_outputs)
        found.append((outputs.detach(), gradient))
    return found


def test_thresholds_and_steps_that_lie_apart_are_found(training: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    random = torch.Generator().manual_seed(0)
    every_second, theta = torch.randn(8, 7, 600, generator=random)[::2], torch.rand(600, generator=random) + 0.5
    at_outputs = torch.randn(8, 7, 600, generator=random)[::2]
    (outputs, gradient), (expected, torchs) = unrolled(monkeypatch, every_second, theta, Triangle(), at_outputs)
    assert torch.equal(outputs, expected)
    torch.testing.assert_close(gradient, torchs, rtol=1e-4, atol=1e-5)


def test_a_region_ends_where_torch_ends_it(training: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    x, theta = torch.tensor([[[-1.5, -1.0, 0.0, 1.0, 3.0, 3.5]]]), torch.tensor(1.0)  # distances from 2.5 to 2.5
    found = unrolled(monkeypatch, x, theta, Dspike(k=0.5, region=2.0), torch.ones(1, 1, 6))
    torch.testing.assert_close(*(gradient for _, gradient in found))
    assert (found[0][1] > 0.1).tolist() == [[[False, True, True, True, True, False]]]


def test_a_surrogate_of_ones_own_is_left_to_torch(training: Library) -> None:
    class Steep:
        def derivative_(self, x: Tensor) -> Tensor:
            return x.square_().neg_().exp_()

    x = torch.randn(3, 5, 4, requires_grad=True)
    outputs, _ = Membrane().unroll(torch.zeros(5, 4), x, torch.tensor(1.0), Steep())
    outputs.sum().backward()
    expected = x.detach().clone().requires_grad_()
    v = torch.zeros(5, 4)
    total = x.new_zeros(())
    for current in expected:
        count, v = Membrane().step(v, current, torch.tensor(1.0), Steep())
        total = total + count.sum()
    total.backward()
    torch.testing.assert_close(x.grad, expected.grad)


@pytest.mark.parametrize("v_reset", [None, 0.0])
def test_currents_of_bfloat16_charge_membranes_of_float32(training: Library, v_reset: float | None) -> None:
    generator = torch.Generator().manual_seed(0)
    currents = torch.randn(4, 7, 300, generator=generator).bfloat16()
    at_outputs = torch.randn(4, 7, 300, generator=generator).bfloat16()
    theta, rules = torch.rand(300, generator=generator) + 0.5, Membrane(decay=0.5, v_reset=v_reset)
    found = []
    for dtype in (torch.bfloat16, torch.float32):
        x = currents.to(dtype, copy=True).requires_grad_()
        outputs, last = rules.unroll(torch.zeros(7, 300, dtype=dtype), x, theta, Triangle())
        outputs.backward(at_outputs.to(dtype))
        assert last.dtype == torch.float32
        assert outputs.dtype == x.grad.dtype == dtype
        found.append((outputs.detach(), last.detach(), x.grad))
    (narrow, last, grad), (wide, same_last, wide_grad) = found
    assert torch.equal(narrow, wide.bfloat16())
    assert torch.equal(last, same_last)
    assert torch.equal(grad, wide_grad.bfloat16())


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_currents_of_other_types_are_left_to_torch_both_ways(training: Library, dtype: torch.dtype) -> None:
    x = torch.rand(3, 5, 4, dtype=dtype, requires_grad=True)
    assert Membrane().compiled(torch.zeros(5, 4), x, torch.tensor(1.0)) is None
    outputs, _ = Membrane().unroll(torch.zeros(5, 4), x, torch.tensor(1.0), Triangle())
    outputs.sum().backward()
    assert x.grad is not None
    assert x.grad.dtype == dtype
    assert bool(x.grad.abs().sum() > 0)


@pytest.mark.parametrize("shape", [(6, 3), (4, 8, 6, 6), (5, 3, 7, 3), (2, 300, 2, 2), (1, 1, 1, 2)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("affine", [True, False])
def test_batch_normalisation_learns_as_torch_does(
    training: Library, shape: tuple[int, ...], dtype: torch.dtype, affine: bool
) -> None:
    generator = torch.Generator().manual_seed(0)
    x, dy = (torch.randn(shape, generator=generator).mul(2).add(0.5).to(dtype) for _ in range(2))
    if len(shape) == 4:
        x, dy = (values.contiguous(memory_format=torch.channels_last) for values in (x, dy))
    channels, numbers = shape[1], []
    vectors = [torch.rand(channels, generator=generator) + 0.5 for _ in range(4)]
    own = BatchNorm(vectors[0].clone(), vectors[1].clone(), *(v.clone() for v in vectors[2:] if affine), momentum=0.3)
    assert norm.plan(training, x, own.running_mean) is not None
    theirs = torch.nn.BatchNorm2d(channels, affine=affine, momentum=0.3)
    theirs.load_state_dict({**own.state_dict(), "num_batches_tracked": torch.tensor(0)})
    for module, own_type in ((own.train(), dtype), (theirs.train(), torch.float32)):
        inputs = x.to(own_type, copy=True).requires_grad_()
        place = inputs if len(shape) == 4 or module is own else inputs[:, :, None, None]
        y = module.requires_grad_()(place).view(shape) if len(shape) == 2 else module.requires_grad_()(place)
        y.backward(dy.to(own_type))
        gradients = [p.grad for p in (module.weight, module.bias)] if affine else []
        numbers.append((y.detach(), inputs.grad, module.running_mean, module.running_var, *gradients))
        assert y.dtype == own_type
    near = {"rtol": 1e-4, "atol": 1e-4} if dtype == torch.float32 else {"rtol": 2e-2, "atol": 6e-2}
    for found, expected in zip(*numbers, strict=True):
        torch.testing.assert_close(found.float(), expected, **near)


def test_normalisation_gives_the_same_on_any_number_of_threads(training: Library) -> None:
    x = whole(-9, 9, 16, 12, 20, 20).div(7)
    threads, found = torch.get_num_threads(), []
    made = norm.plan(training, x)
    assert made is not None
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        y, mean, _, root = made.forward(x, torch.zeros(12), None, None, 1e-5)
        found.append((y, mean, root, *made.backward(x, y, mean, root, None)))
    torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for other in found[1:] for a, b in zip(found[0], other, strict=True))


@pytest.mark.parametrize(
    "x",
    [
        torch.zeros(2, 3, 4, 4),
        torch.zeros(1, 3),
        torch.zeros(2, 3, 4),
        torch.zeros(4, 3, dtype=torch.float64),
        torch.zeros(0, 3),
    ],
    ids=["channels first", "one number", "three axes", "float64", "empty"],
)
def test_what_compiled_normalisation_leaves_to_torch(training: Library, x: Tensor) -> None:
    assert norm.plan(training, x) is None
    assert norm.plan(training, torch.zeros(4, 3), torch.zeros(3, dtype=torch.float64)) is None


def test_shapes_are_found_in_training_mode_as_well(training: Library) -> None:
    own = BatchNorm(torch.zeros(3), torch.ones(3)).train()
    assert OpGraph([Node("norm", own, (INPUT,))], "norm").shapes((3, 4, 4))["norm"] == (3, 4, 4)


@pytest.mark.parametrize("rules", [Membrane(decay=0.5), Membrane(decay=0.5, v_reset=0.0)], ids=str)
@pytest.mark.parametrize("name", ["rectangle", "dspike", "triangle"])
def test_membranes_at_a_threshold_or_at_a_surrogates_edge_are_on_the_side_that_torch_says(
    training: Library, rules: Membrane, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = torch.arange(-16, 17).float().div(8).repeat(3, 2, 1)  # multiples of an eighth; thresholds are among them
    theta, first, found = torch.tensor(1.0), torch.zeros(2, 33), []
    for compiled in (True, False):
        if not compiled:
            monkeypatch.setattr(native, "load", lambda part: None)
        x = grid.clone().requires_grad_()
        outputs, last = rules.unroll(first, x, theta, SURROGATES[name]())
        torch.autograd.backward((outputs, last), (torch.ones_like(outputs), torch.ones_like(last)))
        assert x.grad is not None
        found.append((outputs.detach(), last.detach(), x.grad))
    assert torch.equal(found[0][0], found[1][0])
    assert float(found[0][0][0, 0, 24]) == 1.0  # a current of 1 reaches the threshold
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_a_gradient_that_is_no_number_stays_one_in_bfloat16(training: Library) -> None:
    x = torch.zeros(2, 3, 64, dtype=torch.bfloat16, requires_grad=True)
    outputs, last = Membrane(decay=0.5).unroll(torch.zeros(3, 64), x, torch.tensor(1.0), Triangle())
    arriving = torch.full_like(last, 1)
    arriving[0] = torch.tensor(0x7FFFFFFF, dtype=torch.int32).view(torch.float32)  # the largest of all NaN
    torch.autograd.backward((outputs, last), (torch.ones_like(outputs), arriving))
    assert x.grad is not None
    assert bool(x.grad[:, 0].isnan().all())
    assert bool(x.grad[:, 1:].isfinite().all())


def test_normalisation_of_what_is_no_number_or_does_not_vary_says_so(training: Library) -> None:
    x = torch.full((7, 3), 3.3)
    x[2, 1] = torch.nan
    x[:, 2] = torch.arange(7.0)
    made = norm.plan(training, x)
    assert made is not None
    y, mean, variance, _ = made.forward(x, torch.zeros(3), None, None, 1e-5)
    assert bool(y[:, 1].isnan().all())
    assert bool(variance[1].isnan())
    assert 0.0 <= float(variance[0]) < 1e-12
    assert mean[[0, 2]].tolist() == pytest.approx([3.3, 3.0])
    assert float(variance[2]) == pytest.approx(4.0)


def test_what_lies_between_two_of_bfloat16_is_rounded_to_the_even_one(training: Library) -> None:
    theta = 1 + torch.tensor([1.0, 3.0, 5.0, 7.0, 2.0, 0.5, 1.5]) * 2**-8
    x = torch.full((1, 2, 7), 2.0, dtype=torch.bfloat16)
    outputs, _ = Membrane().unroll(torch.zeros(2, 7), x, theta, Triangle())
    assert torch.equal(outputs[0], theta.bfloat16().expand(2, 7))
    assert outputs[0, 0].float().sub(1).mul(2**7).tolist() == [0, 2, 2, 4, 1, 0, 1]
