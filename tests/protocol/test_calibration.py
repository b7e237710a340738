"""Calibration: what is measured of this machine, in whose company, and that it is kept."""

import multiprocessing
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from nbutils.protocol import calibration, cost_card, stopwatch
from nbutils.protocol.plan import Plan
from nbutils.runs.types import Manifest, Run
from support.project import open_store


def recorded(run: Run, seconds: float) -> Manifest:
    values = {
        "schema_version": 1, "key": "0" * 16, "stage": run.stage, "name": run.name,
        "labels": run.labels, "parameters": run.params.model_dump(mode="json"), "inputs": {},
        "code_digest": "", "git": {}, "versions": {}, "device": "a processor", "dtype": "float32",
        "threads": 1, "seed": 0, "created": "2026-01-02T03:04:05+00:00", "wall_seconds": seconds,
        "peak_memory_mib": 500.0, "outputs": {},
    }  # fmt: skip
    return Manifest.model_validate(values)


@pytest.mark.slow
def test_calibration_measures_what_a_training_takes(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pre-training said to take an hour a step is done at a small share of that pace."""
    monkeypatch.setattr(stopwatch, "SECONDS", 0.05)
    run = plan.model("neox-small")
    steps = run.params.model_dump()["recipe"]["steps"]
    assert 0 < calibration.pace(recorded(run, 3600.0 * steps), workers=1) < 0.01
    rates = calibration.rates(threads=1, workers=1)
    assert 0 < rates.reading < 1e-6
    assert 0 < rates.sampling < 1e-4


@pytest.mark.slow
def test_calibration_has_the_company_of_the_other_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Others train meanwhile, and are gone afterwards."""
    monkeypatch.setattr(stopwatch, "SECONDS", 0.05)
    monkeypatch.setattr(stopwatch, "STARTING", 0.0)
    company, measure = [], stopwatch._seconds_each

    def counting(repeat: Callable[[int], object]) -> float:
        company.append(len(multiprocessing.active_children()))
        return measure(repeat)

    monkeypatch.setattr(stopwatch, "_seconds_each", counting)
    calibration.rates(threads=1, workers=3)
    assert company == [2, 2]
    assert not multiprocessing.active_children()


def test_a_measurement_is_kept_for_the_next_dry_run(
    plan: Plan, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second card is made of the first one's measurement; other workers need another one."""
    asked: list[int] = []

    def pace(_: Manifest, workers: int) -> float:
        asked.append(workers)
        return 2.0

    monkeypatch.setattr(stopwatch, "pace", pace)
    published = [recorded(plan.model("neox-small"), 10.0)]
    todo, store = [plan.model("neox-small")], open_store(project)
    for _ in range(2):
        assert cost_card.card(todo, plan, store, published, 1).seconds == pytest.approx(20.0)
    assert asked == [1]
    cost_card.card(todo, plan, store, published, 2)
    assert asked == [1, 2]


def test_a_cut_off_file_is_measured_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopwatch, "rates", lambda threads, workers: [1e-9, 1e-8])
    calibration.place().parent.mkdir(parents=True, exist_ok=True)
    calibration.place().write_text('{"a": [1', "utf-8")
    assert calibration.rates(1, 1).sampling == 1e-8
    monkeypatch.setattr(stopwatch, "rates", lambda threads, workers: [1.0, 1.0])
    assert calibration.rates(1, 1).sampling == 1e-8


def test_what_is_kept_needs_no_library_that_is_slow_to_import() -> None:
    """Transformers takes seconds to import: more than the dry run of a known tier may take."""
    imported = "import sys, nbutils.protocol.cost_card; print('transformers' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", imported], capture_output=True, text=True)
    assert done.stdout == "False\n"
