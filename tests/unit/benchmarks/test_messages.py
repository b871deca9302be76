"""What the code says when something is wrong."""

import pytest

from benchmarks.messages import lacks_step, written


def test_every_error_in_the_code_says_what_to_do() -> None:
    messages = written()
    assert len(messages) > 400
    assert not {place: message for place, message in messages.items() if lacks_step(message)}


@pytest.mark.parametrize(
    ("message", "lacks"),
    [
        ("a.npz: no such file; check the path", False),
        ("images have shape [2], expected [B, C, H, W]", False),
        ("q is a percentage in (0, 100], got 200", False),
        ("the metadata has no graph", True),
        ("reads inputs that are not expectable, of which none is", True),
    ],
)
def test_a_next_step_is_known_by_its_verb_or_by_what_was_expected(message: str, lacks: bool) -> None:
    assert lacks_step(message) == lacks
