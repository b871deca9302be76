"""``seenn``, and ``python -m cli``: Ctrl-C while the commands are being loaded ends it, too, without a traceback."""

from __future__ import annotations

import signal

if interruptible := signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from cli.main import main

if interruptible:
    signal.signal(signal.SIGINT, signal.default_int_handler)

if __name__ == "__main__":
    main()
