"""What engines compile against torch: neurons of every kind, layout and source, rows, averages, depthwise sums."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from compiled import compiled_for
from torch import Tensor

from seenn import native
from seenn.core.network import SpikingNetwork
from seenn.core.ops import AdaptiveAvgPool2d, AvgPool2d, Linear
from seenn.native import Cumulative, Depthwise, Firing, Joined, RowWriter, WindowSums
from seenn.native.library import Library
from seenn.runtime import make_engine
from seenn.runtime.kernels.synapses import exact_kernels
from seenn.runtime.lowering.program import Buffer, SynapseTerm


@pytest.fixture(scope="module")
def library() -> Library:
    return compiled_for("engine")


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
