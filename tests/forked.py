"""Python programs in processes of their own that start with everything imported: forks of a server that has done so.

Where the system has no such server (Windows), they are started as any other. What is tested of a start itself, such as
what is imported, needs ``subprocess``.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import runpy
import sys
import tempfile
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from multiprocessing.process import BaseProcess
from pathlib import Path
from subprocess import CompletedProcess

HERE = Path(__file__).parent
_METHOD = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
_CONTEXT = multiprocessing.get_context(_METHOD)


@dataclass(frozen=True)
class Running:
    """A program that was started."""

    arguments: tuple[str, ...]
    process: BaseProcess
    streams: tempfile.TemporaryDirectory[str]

    def result(self, timeout: float = 300.0) -> CompletedProcess[str]:
        """Waits for its end.

        Raises:
            TimeoutError: it goes on; it is killed.
        """
        self.process.join(timeout)
        if self.process.exitcode is None:
            self.process.kill()
            self.process.join()
            raise TimeoutError(f"{' '.join(self.arguments)[:200]}: not done after {timeout} s")
        with self.streams as folder:
            out, err = (Path(folder, name).read_text(encoding="utf-8") for name in ("out", "err"))
        return CompletedProcess(self.arguments, self.process.exitcode, out, err)


def start(*arguments: str | Path, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> Running:
    """What ``python ARGUMENTS`` does: ``-c CODE``, ``-m MODULE`` or a file, and what goes into ``sys.argv``."""
    given = tuple(map(str, arguments))
    streams = tempfile.TemporaryDirectory()
    environment = dict(os.environ if env is None else env)
    _serve()
    process = _CONTEXT.Process(target=_work, args=(given, str(cwd or Path.cwd()), environment, streams.name))
    process.start()
    return Running(given, process, streams)


def run(*arguments: str | Path, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> CompletedProcess[str]:
    """``start``, and its end."""
    return start(*arguments, cwd=cwd, env=env).result()


@cache
def _serve() -> None:
    """Starts the server; ``sys.path`` is handed to its forks, but what it imports itself it must find."""
    if _METHOD != "forkserver":
        return
    from multiprocessing import forkserver

    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(HERE), str(HERE.parent), before]))
    try:
        forkserver.set_forkserver_preload(["preloaded"])
        forkserver.ensure_running()
    finally:
        del os.environ["PYTHONPATH"]
        if before is not None:
            os.environ["PYTHONPATH"] = before


def _work(arguments: tuple[str, ...], folder: str, environment: Mapping[str, str], streams: str) -> None:
    for number, name in ((1, "out"), (2, "err")):
        file = os.open(Path(streams, name), os.O_WRONLY | os.O_CREAT)
        os.dup2(file, number)
        os.close(file)
    multiprocessing.set_start_method(None, force=True)  # as where nothing forked this one
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[:0] = filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))
    code = _exit_code(arguments)
    atexit._run_exitfuncs()  # multiprocessing leaves without
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _exit_code(arguments: tuple[str, ...]) -> int:
    """Runs it as the interpreter does."""
    try:
        match arguments:
            case ("-c", code, *rest):
                sys.argv = ["-c", *rest]
                sys.path.insert(0, "")
                exec(compile(code, "<string>", "exec"), {"__name__": "__main__"})  # noqa: S102 - of the tests
            case ("-m", module, *rest):
                sys.argv = [module, *rest]
                runpy.run_module(module, run_name="__main__", alter_sys=True)
            case (file, *rest):
                sys.argv = [file, *rest]
                sys.path.insert(0, str(Path(file).parent))
                runpy.run_path(file, run_name="__main__")
    except SystemExit as stop:
        if stop.code is None or isinstance(stop.code, int):
            return stop.code or 0
        print(stop.code, file=sys.stderr)
        return 1
    except BaseException:  # as the interpreter
        traceback.print_exc()
        return 1
    return 0
