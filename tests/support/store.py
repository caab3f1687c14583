"""A tracking store in memory that can be away, lose its answers, refuse, or hang."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from sweep.tracking.store import RefusedError


@dataclass
class Entry:
    """What the store knows of a run."""

    name: str
    tags: dict[str, str]
    status: str = "RUNNING"
    params: dict[str, str] = field(default_factory=dict)
    points: list[tuple[str, float, int, int]] = field(default_factory=list)
    inputs: list[dict[str, str]] = field(default_factory=list)
    files: list[str] = field(default_factory=list)


@dataclass
class Server:
    """Takes calls as they come, unless it is told otherwise."""

    runs: dict[str, Entry] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    """Names of the methods that did something, in order."""
    away: int = 0
    """That many calls find nobody."""
    lost: int = -1
    """The call with this number does what it should, but its answer does not arrive."""
    refuses: set[str] = field(default_factory=set)
    """Methods that are never taken."""
    answers: threading.Event = field(default_factory=threading.Event)
    """While it is not set, every call hangs."""

    def __post_init__(self) -> None:
        self.answers.set()

    def call(self, name: str, act: Callable[[], Any]) -> Any:
        self.answers.wait()
        if self.away:
            self.away -= 1
            raise ConnectionError("nobody is there")
        if name in self.refuses:
            raise RefusedError(f"{name} is not taken")
        answer = act()
        self.calls.append(name)
        if len(self.calls) == self.lost + 1:
            raise ConnectionError("the answer was lost")
        return answer


@dataclass(frozen=True)
class FakeStore:
    """The methods of `track.Store` over a server in this process."""

    uri: str | None
    experiment_id: str = ""
    nested: bool = False
    servers: ClassVar[dict[str, Server]] = {}

    @property
    def server(self) -> Server:
        assert self.uri is not None
        return self.servers.setdefault(self.uri, Server())

    def create_run(self, name: str, tags: Mapping[str, str]) -> str:
        def act() -> str:
            run_id = f"run-{len(self.server.runs)}"
            self.server.runs[run_id] = Entry(name, dict(tags))
            return run_id

        return str(self.server.call("create_run", act))

    def find_run(self, tags: Mapping[str, str]) -> str:
        def act() -> str:
            keys = ("sweep.place", "sweep.host")
            return next(
                (
                    run_id
                    for run_id, entry in self.server.runs.items()
                    if all(entry.tags.get(key) == tags.get(key) for key in keys)
                ),
                "",
            )

        return str(self.server.call("find_run", act))

    def known(self, run_ids: Sequence[str]) -> set[str]:
        found: set[str] = self.server.call("known", lambda: set(run_ids) & set(self.server.runs))
        return found

    def log_metrics(self, run_id: str, points: Sequence[tuple[str, float, int, int]]) -> None:
        self.server.call("log_metrics", lambda: self.server.runs[run_id].points.extend(points))

    def describe(self, run_id: str, params: Mapping[str, str], tags: Mapping[str, str]) -> None:
        def act() -> None:
            self.server.runs[run_id].params |= params
            self.server.runs[run_id].tags |= tags

        self.server.call("describe", act)

    def log_inputs(self, run_id: str, datasets: Sequence[Mapping[str, str]]) -> None:
        self.server.call(
            "log_inputs", lambda: self.server.runs[run_id].inputs.extend(map(dict, datasets))
        )

    def upload(self, run_id: str, paths: Sequence[Path]) -> None:
        names = [path.name for path in paths if path.exists()]
        self.server.call("upload", lambda: self.server.runs[run_id].files.extend(names))

    def set_status(self, run_id: str, status: str) -> None:
        def act() -> None:
            self.server.runs[run_id].status = status

        self.server.call("set_status", act)
