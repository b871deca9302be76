"""What all tests share: those marked ``gpu`` are skipped where there is no CUDA device; messages can be listened to."""

from __future__ import annotations

import messages
import pytest
import torch
from hypothesis import settings

settings.register_profile("any machine", deadline=None)  # how long an example takes is no property
settings.load_profile("any machine")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--messages", metavar="FILE", help="Write every error message there: see tests/messages.py.")


HEARD = pytest.StashKey[list[str]]()


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--messages"):
        config.stash[HEARD] = messages.listen()


def pytest_sessionfinish(session: pytest.Session) -> None:
    if file := session.config.getoption("--messages"):
        with open(file, "a", encoding="utf-8") as stream:  # of every process that runs tests
            stream.writelines(session.config.stash[HEARD])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu") is not None:
                item.add_marker(pytest.mark.skip(reason="there is no CUDA device"))
