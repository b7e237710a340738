"""The stream of verdicts: while a tier is computed its tables grow, and its claims are judged."""

import time
from collections.abc import Callable
from contextlib import suppress
from functools import cached_property

import pandas as pd

from nbutils.results.measurements import InStore
from nbutils.results.project import Project
from nbutils.runs import garbage
from nbutils.runs.types import Run, UnwritableError

SHARE = 0.01
"""The share of the time that goes into the tables of an unfinished tier, at most."""


class Stream:
    """Writes the tables of what is finished of a tier, and says each verdict that is new.

    A verdict is new if it or its rounded number has changed, or if it now stands on all pairings.
    """

    def __init__(
        self, name: str, runs: list[Run], project: Project, say: Callable[[str], None]
    ) -> None:
        """``runs`` are all those of the tier ``name``; ``say`` prints a sentence."""
        self._name, self._runs, self._project, self._say = name, runs, project, say
        self._waiting = True  # whether a run has been finished since the last look
        self._due = 0.0  # from when the tables may be written again
        self._measured = InStore(project.store, runs)
        self._rows = 0  # runs that have rows in the tables
        self._said: dict[str, tuple[str, str, bool]] = {}

    def finished(self) -> None:
        """Note that a run was finished."""
        self._waiting = True

    def update(self) -> None:
        """Write the tables and judge the claims, if a run was finished and it is time.

        It is time when the last update is no more than ``SHARE`` of what has passed since it began.
        """
        started = time.monotonic()
        if not self._waiting or started < self._due:
            return
        self._waiting = False
        with suppress(UnwritableError):  # the runs meet the same disk; at the end it is an error
            if self.rebuild():
                self._due = started + (time.monotonic() - started) / SHARE

    def rebuild(self) -> bool:
        """Write the tables and judge the claims; False if no more is measured than before.

        Raises:
            StoreError: A finished run is damaged.
            UnwritableError: The disk is full or cannot be written.
        """
        # slow to import; by now the workers compute
        from nbutils.analysis import claims, gains  # noqa: F401 - before anything is timed
        from nbutils.results import collect, rows

        store = self._project.store
        part = rows.with_rows(self._runs, store)
        measured = [run for run in part if run.stage in (*rows.STATES, "measure_proxies")]
        trained = [run for run in measured if run.labels.get("experiment") == "pairings"]
        if len(measured) == self._rows or not trained:
            return False
        manifests = [m for m in map(store.finished, part) if m is not None]
        with garbage.damage_reported(store, manifests):
            frames = collect.collect_part(self._name, part, self._project, self._measured)
        self._rows = len(measured)
        self.judge(frames)
        return True

    def judge(self, frames: dict[str, pd.DataFrame]) -> None:
        """Judge the claims from a tier's tables, and say what is new."""
        from nbutils.analysis import claims
        from nbutils.analysis.verdicts import sentence

        tables = {name: frames[name].assign(results=self._name) for name in claims.TABLES}
        for judged in claims.judged(tables, self._name):
            behind = len(claims.behind(judged.claim, frames))
            asked = len(claims.pairings(judged.claim, self._asked))
            number = judged.number.text(judged.number.value)
            new = (judged.verdict, number, behind == asked)
            if self._said.get(judged.claim) != new:
                self._said[judged.claim] = new
                self._say(f"verdict on {behind} of {asked} pairings: {sentence(judged)}")

    @cached_property
    def _asked(self) -> pd.DataFrame:
        """The labels of every state that the tier measures."""
        return pd.DataFrame([run.labels for run in self._runs if run.stage == "measure_utility"])
