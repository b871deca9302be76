"""``--model-kwargs``."""

from __future__ import annotations

import pytest

from converter.load import parse_model_kwargs


def test_values_are_literals_and_commas_in_brackets_or_quotes_do_not_separate() -> None:
    items = ["channels=(32,64,[1,2]),stem_width=32", "act_layer=relu6,drop_rate=0.1", "note='a,b'"]
    assert parse_model_kwargs(items) == {
        "channels": (32, 64, [1, 2]),
        "stem_width": 32,
        "act_layer": "relu6",
        "drop_rate": 0.1,
        "note": "a,b",
    }


def test_nothing_is_evaluated() -> None:
    assert parse_model_kwargs(["x=__import__('os').getcwd()"]) == {"x": "__import__('os').getcwd()"}


def test_empty_items_give_nothing() -> None:
    assert parse_model_kwargs(["", " , "]) == {}


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ("channels", "expected key=value, got 'channels'"),
        ("a b=1", "expected key=value,…, got 'a b=1'"),
        ("a=1,a=2", "'a' is given twice"),
        ("a=(1,2", "expected key=value,…, got 'a=\\(1,2' \\('\\(' was never closed|does not match"),
        ("a='x", "expected key=value,…, got .*unterminated string"),
    ],
)
def test_malformed_entries_are_refused(item: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_model_kwargs([item])
