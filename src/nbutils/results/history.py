"""History of the published and local runs, from their manifests: dates, machines, CPU time.

Accelerators have wall time instead, and so do runs from before CPU time was recorded.
"""

from typing import Any

import pandas as pd

from nbutils.protocol.stages import STAGES
from nbutils.runs.eta import duration


def tiers(manifests: pd.DataFrame) -> pd.DataFrame:
    """One row per result label: runs, dates, machines, time spent and commits.

    ``manifests`` are rows of ``tables.manifests``.
    """
    return _by(manifests, "results", _tier)


def _tier(part: pd.DataFrame) -> dict[str, Any]:
    days = sorted(str(created)[:10] for created in part["created"])
    commits = {
        str(git["commit"])[:10] + (" changed" if git["dirty"] else "") for git in part["git"]
    }
    return {
        "runs": len(part),
        "first": days[0],
        "last": days[-1],
        "where": ", ".join(sorted(set(part["device"]))),
        "threads": ", ".join(map(str, sorted(set(part["threads"])))),
        "CPU time": duration(float(_seconds(part).sum())),
        "peak memory (MiB)": round(float(part["peak_memory_mib"].max())),
        "commit": ", ".join(sorted(commits)),
    }


def stages(manifests: pd.DataFrame) -> pd.DataFrame:
    """One row per result label and stage: runs, their median, longest and total duration."""
    return _by(manifests, ["results", "stage"], _stage)


def _stage(part: pd.DataFrame) -> dict[str, Any]:
    seconds = _seconds(part)
    return {
        "runs": len(part),
        "median": duration(float(seconds.median())),
        "longest": duration(float(seconds.max())),
        "together": duration(float(seconds.sum())),
        "peak memory (MiB)": round(float(part["peak_memory_mib"].max())),
        "version": ", ".join(map(str, sorted(set(part["version"])))),
        "of today": _is_current(str(part["stage"].iloc[0]), set(part["version"])),
    }


def _is_current(stage: str, versions: set[int]) -> str:
    """``yes`` if all runs of a stage have its current version, else ``no``."""
    return "yes" if stage in STAGES and versions == {STAGES[stage].version} else "no"


def earlier(manifests: pd.DataFrame) -> dict[str, list[str]]:
    """Maps each result label to those of its stages whose runs are not all of the current version.

    Labels without such a stage are left out.
    """
    outdated: dict[str, list[str]] = {}
    if manifests.empty:
        return outdated
    for (label, stage), part in manifests.groupby(["results", "stage"], sort=False):
        if _is_current(str(stage), set(part["version"])) == "no":
            outdated.setdefault(str(label), []).append(str(stage))
    return outdated


def versions(manifests: pd.DataFrame) -> pd.DataFrame:
    """One row per library, one column per result label: the versions that its runs used."""
    columns = {}
    if len(manifests):
        for label, part in manifests.groupby("results", sort=False):
            used = pd.DataFrame(list(part["versions"]))
            columns[label] = {
                name: ", ".join(sorted(used[name].dropna().unique())) for name in used
            }
    return pd.DataFrame(columns).fillna("–").rename_axis("library").reset_index()


def longest(manifests: pd.DataFrame, number: int = 10) -> pd.DataFrame:
    """The runs that took longest, one row per run."""
    if manifests.empty:
        return manifests
    rows = manifests.assign(seconds=_seconds(manifests))
    rows = rows.sort_values("seconds", ascending=False).head(number)
    table = rows[["results", "stage", "name", "key"]].copy()
    table["took"] = [duration(float(seconds)) for seconds in rows["seconds"]]
    table["made"] = [str(created)[:16].replace("T", " ") for created in rows["created"]]
    return table


def _seconds(manifests: pd.DataFrame) -> pd.Series:
    """What each run took: see ``Manifest.seconds``."""
    rows = manifests.reindex(columns=["wall_seconds", "cpu_seconds", "accelerators", "threads"])
    per_thread = rows["cpu_seconds"].astype(float) / rows["threads"]
    use_wall = rows["accelerators"].fillna(0).gt(0) | per_thread.isna()
    return rows["wall_seconds"].astype(float).where(use_wall, per_thread)


def _by(manifests: pd.DataFrame, keys: str | list[str], summary: Any) -> pd.DataFrame:
    """One row per group with the same ``keys``, with the columns that ``summary`` returns."""
    if manifests.empty:
        return manifests
    names = [keys] if isinstance(keys, str) else keys
    rows = []
    for values, part in manifests.groupby(names, sort=False):
        rows.append(dict(zip(names, values, strict=True)) | summary(part))
    return pd.DataFrame(rows)
