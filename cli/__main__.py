"""``seenn``, and ``python -m cli``."""

from __future__ import annotations

from cli.interrupt import ctrl_c_ends_at_once

with ctrl_c_ends_at_once():
    from cli.main import main

if __name__ == "__main__":
    main()
