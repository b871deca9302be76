from __future__ import annotations

import io
import warnings

import numpy as np
import onnxruntime
import pytest
import torch
import torch.nn.functional as F

from seenn.core.ops import AdaptiveAvgPool2d


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (3, 3), (2, 3), (7, 7)])
@pytest.mark.parametrize("shape", [(7, 7), (8, 6), (5, 9), (2, 2)])  # the last are fewer than what is asked for
def test_averages_of_windows_are_those_of_torch(size: tuple[int, int], shape: tuple[int, int]) -> None:
    x = torch.randn(2, 3, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    op = AdaptiveAvgPool2d(size)
    torch.testing.assert_close(op(x), F.adaptive_avg_pool2d(x, size))
    ones = torch.ones_like(x)
    torch.testing.assert_close(op.route(x) / op.route(ones), op(x))


def test_windows_that_overlap_evenly_have_an_onnx_form() -> None:
    x, file = torch.randn(2, 3, 7, 7, generator=torch.Generator().manual_seed(0)), io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(AdaptiveAvgPool2d((2, 2)), (x,), file, dynamo=False, input_names=["x"])
    (found,) = onnxruntime.InferenceSession(file.getvalue()).run(None, {"x": x.numpy()})
    np.testing.assert_allclose(found, F.adaptive_avg_pool2d(x, 2).numpy(), rtol=1e-5, atol=1e-6)
