"""How C code becomes a library: the compiler, the cache, and the trial that a library must pass."""

from __future__ import annotations

import hashlib
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import forked
import pytest
from compiled import compiled_for

from seenn import native
from seenn.core.network import SpikingNetwork
from seenn.native import cache
from seenn.native.library import FLAGS, Library
from seenn.snn import SNN


@pytest.fixture(scope="module")
def library() -> Library:
    return compiled_for("engine")


LOAD = """
import logging, sys
logging.basicConfig(format="%(levelname)s %(message)s", stream=sys.stderr)
from seenn.native import library, load
library.FLAGS = (*library.FLAGS, "-O0")  # what is tried here is not speed, and this is built often
print(load("engine") is not None)
"""


@pytest.fixture
def process(tmp_path: Path) -> Callable[..., forked.Running]:
    """Starts a process that loads the engine's code, with a cache folder and a compiler that counts its calls."""
    for name in ("cache", "tmp"):
        (tmp_path / name).mkdir(mode=0o700)
    compiler = tmp_path / "compiler"
    compiler.write_text(f"#!/bin/sh\necho $* >> {tmp_path}/calls\nexec cc $*\n")
    compiler.chmod(0o755)
    defaults = {"CC": str(compiler), "SEENN_CACHE": str(tmp_path / "cache"), "TMPDIR": str(tmp_path / "tmp")}

    def start(program: str = LOAD, **changes: str) -> forked.Running:
        return forked.start("-c", program, cwd=tmp_path, env=os.environ | defaults | changes)

    return start


def result(process: forked.Running) -> tuple[bool, str]:
    """Whether there was compiled code, and what was logged."""
    done = process.result()
    assert done.returncode == 0, done.stderr
    return done.stdout.strip() == "True", done.stderr


def calls(folder: Path) -> list[str]:
    """The compiler's command lines."""
    log = folder / "calls"
    return log.read_text().splitlines() if log.exists() else []


@pytest.mark.parametrize("compiler", ["/nowhere/cc", "nowhere-cc -O2", "false", "cc 'unbalanced"])
def test_a_compiler_that_is_missing_or_fails_is_done_without_and_named_once(
    compiler: str, process: Callable[..., forked.Running], tmp_path: Path
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
    library: Library, process: Callable[..., forked.Running], tmp_path: Path
) -> None:
    compiler = f"{tmp_path}/compiler -g0 '-DTWO WORDS' $(touch {tmp_path}/expanded) > {tmp_path}/out"
    assert result(process(CC=f"{tmp_path}/compiler -g0 -DWORD")) == (True, "")
    assert calls(tmp_path)[0].startswith("-g0 -DWORD -O2 ")
    assert not result(process(CC=compiler))[0]
    assert not (tmp_path / "expanded").exists()


def test_a_second_process_loads_what_the_first_built_without_compiling_or_testing_it(
    library: Library, process: Callable[..., forked.Running], tmp_path: Path
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
    damage: str, library: Library, process: Callable[..., forked.Running], tmp_path: Path
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
    library: Library, process: Callable[..., forked.Running], tmp_path: Path
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
    library: Library, process: Callable[..., forked.Running], tmp_path: Path
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
    library: Library, process: Callable[..., forked.Running], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    assert result(process(SEENN_CACHE=str(tmp_path / "file" / "below"))) == (True, "")
    assert result(process(SEENN_CACHE="/proc/nothing")) == (True, "")
    assert result(process(SEENN_CACHE="")) == (True, "")
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_second_process_makes_an_engine_without_trying_kernels_or_importing_the_compiler_of_torch(
    library: Library, make_network: Callable[..., SpikingNetwork], tmp_path: Path
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
    environment = {**os.environ, "SEENN_CACHE": str(tmp_path / "cache")}
    notes = []
    for second in (False, True):
        command = [sys.executable, "-c", program.format(second=second)]
        notes.append(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)
    assert notes[0] == notes[1]
    assert "neurons in one pass" in notes[0]


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
