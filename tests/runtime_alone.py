"""What ``constraints-runtime.txt`` promises: a network answers where nothing else is installed.

    python tests/runtime_alone.py [--hide]

With ``--hide`` every other package that seenn depends on is hidden from this process first.
"""

from __future__ import annotations

import re
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
IMPORTED_AS = {"pillow": "PIL", "scikit-learn": "sklearn", "tomli-w": "tomli_w"}


def others() -> list[str]:
    """Packages that seenn depends on, but not here, by the names of their modules."""
    allowed = re.findall(r"^([\w-]+)==", (ROOT / "constraints-runtime.txt").read_text(), re.M)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = [re.split(r"[^\w-]", dependency)[0] for dependency in project["dependencies"]]
    assert set(allowed) <= set(needed)
    return [IMPORTED_AS.get(name, name) for name in needed if name not in allowed]


def main() -> None:
    hidden = others()
    if "--hide" in sys.argv:
        sys.modules.update(dict.fromkeys(hidden))  # None: not to be found
    from PIL import Image
    from small_snn import tiny_snn

    import seenn

    with tempfile.TemporaryDirectory() as folder:
        file, picture = Path(folder) / "snn.safetensors", Path(folder) / "picture.png"
        tiny_snn().save(file)
        Image.new("L", (8, 8), 100).save(picture)
        snn = seenn.load(file)
        (label,) = snn.predict(picture).labels.tolist()
        assert [answer.label for answer in snn.stream([picture, Image.open(picture)])] == [label, label]
    found = [name for name in hidden if sys.modules.get(name) is not None]
    assert not found, f"imported: {found}"
    print(f"answered {label} without {', '.join(hidden)}")


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    main()
