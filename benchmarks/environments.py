"""An environment for each contestant.

It is created from exact pins if it is missing, and kept until the pins change.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.roster import Contestant

HERE = Path(__file__).parent
ENVIRONMENTS = HERE / ".envs"
LATEST_PYTHON = 20  # 3.20: how far up interpreters are looked for


class NotToBeHadError(Exception):
    """A contestant cannot be installed on this machine. The message gives the reason."""


def make(contestants: list[Contestant]) -> dict[str, Path | str]:
    """The interpreter of each contestant by its name, or the reason why the contestant has none."""

    def one(contestant: Contestant) -> Path | str:
        try:
            return interpreter(contestant)
        except NotToBeHadError as error:
            return str(error)

    with ThreadPoolExecutor(2) as pool:
        return dict(zip((each.name for each in contestants), pool.map(one, contestants), strict=True))


def requirements(contestant: Contestant) -> Path:
    """The file with the exact pins of a contestant."""
    return HERE / "peers" / f"{contestant.module}.txt"


def interpreter(contestant: Contestant) -> Path:
    """The Python of the contestant's environment. The environment is created if it is missing.

    Raises:
        NotToBeHadError: The contestant cannot be installed on this machine.
    """
    if contestant.own:
        return Path(sys.executable)
    pins = requirements(contestant).read_text()
    base = python_for(contestant)
    folder = ENVIRONMENTS / contestant.module
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    fingerprint = hashlib.sha256(f"{base}\n{pins}".encode()).hexdigest()
    ready = folder / ".ready"
    if ready.exists() and ready.read_text() == fingerprint:
        return python
    shutil.rmtree(folder, ignore_errors=True)
    _call([str(base), "-m", "venv", str(folder)])
    # Every package is pinned: nothing is resolved, so that the same versions come each time.
    _call([str(python), "-m", "pip", "install", "--quiet", "--no-deps", "-r", str(requirements(contestant))])
    ready.write_text(fingerprint)
    return python


def beside(pins: Path) -> Path:
    """A folder with the packages that *pins* names, for a benchmark that needs them in the project's own environment.

    Raises:
        NotToBeHadError: The packages cannot be installed on this machine.
    """
    folder = ENVIRONMENTS / f"beside-{pins.stem}"
    ready = folder / ".ready"
    fingerprint = hashlib.sha256(f"{sys.executable}\n{pins.read_text()}".encode()).hexdigest()
    if not (ready.exists() and ready.read_text() == fingerprint):
        shutil.rmtree(folder, ignore_errors=True)
        install = ["-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder), "-r", str(pins)]
        _call([sys.executable, *install])
        ready.write_text(fingerprint)
    return folder


def python_for(contestant: Contestant) -> Path:
    """This interpreter if it is new enough, otherwise the next newer interpreter of this machine."""
    if sys.version_info >= contestant.python:
        return Path(sys.executable)
    for minor in range(contestant.python[1], LATEST_PYTHON):
        name = f"python3.{minor}"
        kept = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
        for candidate in (shutil.which(name), *sorted(kept.glob(f"*/bin/{name}"))):
            if candidate is None:
                continue
            answer = subprocess.run([candidate, "-c", "import venv"], capture_output=True, check=False)  # noqa: S603
            if answer.returncode == 0:
                return Path(candidate)
    wanted = ".".join(map(str, contestant.python))
    raise NotToBeHadError(f"it asks for Python {wanted} or later, and none was found on this machine")


def _call(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own command
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or [done.stderr.strip()]
        raise NotToBeHadError(f"{' '.join(command[1:4])} failed: {errors[0]}")
