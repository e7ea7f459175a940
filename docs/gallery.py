"""Make every picture of the gallery from small real runs: `make gallery`.

The commands are those that the pages show, run in an empty folder. Nothing is done where neither they nor the package
have changed since the last time.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import os
import shlex
import shutil
import sys
import time
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCES = ("landscape", "models", "probes", "figures", "docs/gallery.toml", "docs/gallery.py")


def state() -> str:
    """A checksum of all that the pictures depend on."""
    files = [p for s in SOURCES for p in ([ROOT / s] if (ROOT / s).is_file() else sorted((ROOT / s).rglob("*.*")))]
    kept = (p for p in files if p.suffix in (".py", ".toml", ".cpp"))
    total = hashlib.sha256()
    for path in kept:
        total.update(path.relative_to(ROOT).as_posix().encode() + path.read_bytes())
    for name in ("matplotlib", "numpy", "torch"):
        total.update(importlib.metadata.version(name).encode())
    return total.hexdigest()


def run(line: str) -> None:
    """One command as a shell would run it, in this process: a new one would first wait for torch."""
    from landscape.cli import cli

    words = shlex.split(line)
    if words[0] != "landscape":
        raise SystemExit(f"expected a command of landscape, found {line!r}.")
    start, sys.argv = time.perf_counter(), words
    with contextlib.redirect_stdout(sys.stderr):
        code = cli.main(words[1:], standalone_mode=False)
    sys.stderr.write(f"{time.perf_counter() - start:6.1f} s  {line}\n")
    if code:
        raise SystemExit(f"exit code {code}: {line}")


def main() -> None:
    """Fill the folder named on the command line."""
    target = Path(sys.argv[1]).absolute()
    wanted, stamp = state(), target / "made-of"
    if stamp.exists() and stamp.read_text(encoding="utf-8") == wanted:
        return
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    os.chdir(target)
    listed = tomllib.loads((ROOT / "docs" / "gallery.toml").read_text(encoding="utf-8"))
    for step in listed["step"]:
        run(step["command"])
    for picture in listed["picture"]:
        run(picture["command"])
    files = [p.get("file", f"pictures/{p['name']}.png") for p in listed["picture"]]
    if missing := [f for f in files if not (target / f).exists()]:
        raise SystemExit(f"not drawn: {', '.join(missing)}")
    stamp.write_text(wanted, encoding="utf-8")


if __name__ == "__main__":
    main()
