"""History: manifests as tables that people read."""

import pandas as pd

from nbutils.protocol.stages import versions
from nbutils.results import history


def run(key: str, **changes: object) -> dict[str, object]:
    row: dict[str, object] = {
        "key": key, "stage": "self_train", "name": f"tiny: {key}", "results": "tiny · published",
        "created": "2026-01-02T03:04:05+00:00", "wall_seconds": 30.0, "peak_memory_mib": 100.4,
        "device": "cpu", "threads": 1, "versions": {"torch": "2.13.0", "numpy": "2.4.6"},
        "git": {"commit": "a" * 40, "dirty": False}, "version": 0,
    }  # fmt: skip
    return row | changes


MANIFESTS = pd.DataFrame(
    [
        run("one"),
        run("two", wall_seconds=3600.0, created="2026-01-04T00:00:00+00:00", device="gpu"),
        run("three", stage="sample_corpus", git={"commit": "b" * 40, "dirty": True}),
        run("four", results="lab · published", versions={"torch": "2.14.0"}),
    ]
)


def test_a_tier_says_when_where_how_long_and_from_which_commits() -> None:
    tiny = history.tiers(MANIFESTS).set_index("results").loc["tiny · published"]
    assert (tiny["runs"], tiny["first"], tiny["last"]) == (3, "2026-01-02", "2026-01-04")
    assert (tiny["where"], tiny["CPU time"]) == ("cpu, gpu", "61 min")
    assert tiny["commit"] == "aaaaaaaaaa, bbbbbbbbbb changed"


def test_a_stage_says_whether_its_version_is_that_of_today() -> None:
    now = [run("five", version=versions()["self_train"], results="here")]
    gone = [run("six", stage="no_more", results="here")]
    rows = history.stages(pd.DataFrame([*MANIFESTS.to_dict("records"), *now, *gone]))
    told = rows.set_index(["results", "stage"])["of today"]
    assert told["tiny · published", "self_train"] == "no"
    assert told["here", "self_train"] == "yes"
    assert told["here", "no_more"] == "no"


def test_a_stage_says_what_what_one_run_and_all_of_them_took() -> None:
    stages = history.stages(MANIFESTS)
    tiny = stages[stages["results"].eq("tiny · published")].set_index("stage")
    columns = ["runs", "longest", "together", "version"]
    assert list(tiny.loc["self_train", columns]) == [2, "60 min", "60 min", "0"]
    assert tiny.loc["sample_corpus", "together"] == "30 s"


def test_versions_differ_by_tier_and_may_be_missing() -> None:
    versions = history.versions(MANIFESTS).set_index("library")
    assert versions.loc["torch"].to_dict() == {
        "tiny · published": "2.13.0",
        "lab · published": "2.14.0",
    }
    assert versions.loc["numpy", "lab · published"] == "–"


def test_the_longest_run_comes_first() -> None:
    assert history.longest(MANIFESTS, 2)["key"].iloc[0] == "two"


def test_without_runs_there_are_no_rows() -> None:
    nothing = pd.DataFrame()
    for table in (history.tiers, history.stages, history.versions, history.longest):
        assert table(nothing).empty


def test_time_is_cpu_time_per_thread_unless_accelerators_computed() -> None:
    """A busy machine doubles the wall time of a run, and not what it costs."""
    rows = [
        run("processor", wall_seconds=100.0, cpu_seconds=120.0, threads=2, accelerators=0),
        run("accelerator", wall_seconds=30.0, cpu_seconds=400.0, accelerators=1),
        run("earlier", wall_seconds=40.0),
    ]
    longest = history.longest(pd.DataFrame(rows))
    assert dict(zip(longest["key"], longest["took"], strict=True)) == {
        **{"processor": "1 min", "accelerator": "30 s", "earlier": "40 s"},
    }
    assert list(longest["key"]) == ["processor", "earlier", "accelerator"]
