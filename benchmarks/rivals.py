"""Other libraries, each in an environment of its own that is made at its first use."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import venv
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, Self

import msgspec

from benchmarks.process import Child, Entrant, Pause
from benchmarks.stats import milliseconds

SCRIPTS: Final = Path(__file__).resolve().parent / "peers"
_INSTALL_TIMEOUT = 600
_END: Final = 10.0
_SETTLE: Final = 0.03
"""Seconds between enqueueing and the end of a task: by then even a slow client has begun to wait."""


class Rival(msgspec.Struct, frozen=True, kw_only=True):
    """A library that can wait for results.

    Attributes:
        name: as it is shown.
        script: its script in ``peers/``, which says how it waits; or a kind of ``benchmarks.contestants``, to be run in
            its environment.
        requires: what to install, for pip.
        stores: where it can take part.
        cases: the cases that it takes part in.
        arguments: further ones of the script.
        worker: whether a worker of its own produces the results; otherwise a producer process stores them.
        interval: its default polling interval in seconds, if it polls; the number of samples depends on it.
        many: the most waiters that it can have in one process; these are threads if its client blocks.
    """

    name: str
    script: str
    requires: tuple[str, ...]
    stores: tuple[str, ...] = ("redis",)
    cases: tuple[str, ...] = ("wake", "load")
    arguments: tuple[str, ...] = ()
    worker: bool = True
    interval: float = 0.0
    many: int = 1000


RIVALS: Final = (
    Rival(
        name="Celery",
        script="with_celery.py",
        requires=("celery[redis]>=5.7,<6", "sqlalchemy>=2", "psycopg[binary]>=3.2", "pymongo>=4.13"),
        stores=("redis", "postgresql", "mongodb", "sqlite"),
        worker=False,
        many=100,
    ),
    Rival(name="taskiq", script="with_taskiq.py", requires=("taskiq>=0.11.18", "taskiq-redis>=1.1"), interval=0.2),
    Rival(name="arq", script="with_arq.py", requires=("arq>=0.26",), interval=0.5),
    Rival(name="SAQ", script="with_saq.py", requires=("saq[redis]>=0.25", "typing_extensions"), interval=0.5),
    Rival(
        name="SAQ, job.refresh",
        script="with_saq.py",
        requires=("saq[redis]>=0.25", "typing_extensions"),
        arguments=("refresh",),
    ),
    Rival(name="streaQ", script="with_streaq.py", requires=("streaq>=7",)),
    Rival(name="RQ", script="with_rq.py", requires=("rq>=2",), many=100),
    Rival(name="dramatiq", script="with_dramatiq.py", requires=("dramatiq[redis]>=2",), many=100),
    Rival(name="huey", script="with_huey.py", requires=("huey>=3", "redis>=5"), interval=0.5, many=100),
    Rival(
        name="huey, notify_result",
        script="with_huey.py",
        requires=("huey>=3", "redis>=5"),
        arguments=("notify",),
        many=100,
    ),
    Rival(name="docket", script="with_docket.py", requires=("pydocket>=0.27",), many=100),
    Rival(
        name="resumable-stream",
        script="resumable-stream",
        requires=("resumable-stream>=0.2", "msgspec>=0.19"),
        cases=("streams",),
        worker=False,
        many=100,  # the default size of redis-py's pool; each reader uses a connection while it joins
    ),
)


class NotInstalled(Exception):
    """Raised when a rival's environment cannot be made; the rival is then left out, and the report says why."""


def default_folder() -> Path:
    """Return where the environments are kept: outside of the source tree."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "aioresult-benchmarks"


class Environment:
    """A rival's virtual environment, in the folder of all of them."""

    def __init__(self, rival: Rival, folder: Path) -> None:
        wanted = json.dumps([rival.requires, sys.version])
        digest = hashlib.sha256(wanted.encode()).hexdigest()[:10]
        self.rival = rival
        self._folder = folder / f"{Path(rival.script).stem}-{digest}"
        self.python = str(self._folder / "bin" / "python")

    @property
    def ready(self) -> bool:
        return (self._folder / "complete").is_file()

    def install(self) -> None:
        """Make the environment, unless it exists already.

        Raises:
            NotInstalled: that failed; the text contains pip's reason.
        """
        if self.ready:
            return
        try:
            venv.create(self._folder, clear=True, with_pip=True)
            command = [
                self.python,
                *"-m pip install --quiet --disable-pip-version-check".split(),
                *self.rival.requires,
            ]
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=_INSTALL_TIMEOUT)
        except subprocess.CalledProcessError as exc:
            raise NotInstalled(f"pip: {str(exc.stderr).strip()[-500:]}") from exc
        except (OSError, subprocess.TimeoutExpired) as exc:
            raise NotInstalled(str(exc)) from exc
        (self._folder / "complete").touch()

    def versions(self) -> dict[str, str]:
        """Return the versions of the requested packages."""
        command = [self.python, "-m", "pip", "list", "--format=json", "--disable-pip-version-check"]
        listed = json.loads(subprocess.run(command, check=True, capture_output=True, timeout=60).stdout)
        installed = {package["name"].lower(): package["version"] for package in listed}
        names = [requirement.partition(">=")[0].partition("[")[0] for requirement in self.rival.requires]
        return {name: installed.get(name, "?") for name in names}


class RivalEntrant(Entrant):
    """A rival as the cases see it: as the consumer, the producer, or the worker."""

    def __init__(self, environment: Environment, url: str, role: str = "consumer") -> None:
        self.rival = environment.rival
        super().__init__(self.rival.name, self.rival.script, url)
        self._environment = environment
        self._role = role
        if role == "consumer" and not self.rival.worker:
            self.producer = RivalEntrant(environment, url, "producer")

    def command(self, pipe: int) -> list[str]:
        if not self.rival.script.endswith(".py"):
            return [self._environment.python, *super().command(pipe)[1:]]
        script = str(SCRIPTS / self.rival.script)
        return [self._environment.python, script, self._role, self.url, str(pipe), *self.rival.arguments]

    def interval_on(self, store: str) -> float:
        """Return the polling interval of this rival on ``store``, in seconds; 0 if it is woken."""
        return 0.5 if self.rival.name == "Celery" and store != "redis" else self.rival.interval

    def start_worker(self) -> subprocess.Popen[bytes]:
        command = RivalEntrant(self._environment, self.url, "worker").command(-1)
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=SCRIPTS
        )


class WorkerWaker:
    """A consumer that enqueues tasks, and the worker that runs them."""

    slow = True

    def __init__(self, entrant: RivalEntrant) -> None:
        self.name = entrant.name
        self._worker = entrant.start_worker()
        try:
            self._consumer: Child = entrant.start()
        except BaseException:
            self._end_worker()
            raise

    def wake(self, run: str, count: int, background: int, pause: Pause) -> list[float]:
        """Return the milliseconds from the end of each task to the moment when its waiter continues."""
        del run, background
        reply = self._consumer.ask("wake", count=count, pause=(pause[0] + _SETTLE, pause[1] + _SETTLE))
        return milliseconds(reply["stored_at"], reply["resumed_at"])

    def _end_worker(self) -> None:
        self._worker.terminate()
        try:
            self._worker.wait(_END)
        except subprocess.TimeoutExpired:
            self._worker.kill()
            self._worker.wait()

    def close(self) -> None:
        self._end_worker()
        self._consumer.close()


class Rivals:
    """The rivals that take part in a run: those with these names, from environments in this folder."""

    def __init__(self, names: Iterable[str], folder: Path) -> None:
        self._wanted = [rival for rival in RIVALS if _matches(rival.name, names)]
        self._folder = folder
        self._ready: list[Environment] = []
        self.left_out: dict[str, str] = {}

    def install(self, tell: Callable[[str], None]) -> Self:
        """Make the environments that are missing."""
        for rival in self._wanted:
            environment = Environment(rival, self._folder)
            if not environment.ready:
                tell(f"installing {rival.name}, once")
            try:
                environment.install()
            except NotInstalled as exc:
                self.left_out[rival.name] = str(exc)
            else:
                self._ready.append(environment)
        return self

    def versions(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for environment in self._ready:
            found |= environment.versions()
        return found

    def entrants(self, store: str, url: str, case: str) -> list[RivalEntrant]:
        """Return those that take part in ``case`` and can use ``store``; ``url`` is in aioresult's form."""
        return [
            RivalEntrant(environment, _url_for(environment.rival, url))
            for environment in self._ready
            if store in environment.rival.stores and case in environment.rival.cases
        ]


def _matches(name: str, wanted: Iterable[str]) -> bool:
    return any(part == "all" or name.lower().startswith(part) for part in wanted)


def _url_for(rival: Rival, url: str) -> str:
    """Return ``url`` in the rival's form; only Celery supports other stores than Redis."""
    if rival.name != "Celery":
        return url
    url = url.replace("sqlite+aiosqlite://", "db+sqlite://")
    return url.replace("postgresql+asyncpg://", "db+postgresql+psycopg://")
