"""Provenance: what stands under a page's charts, the runs behind them."""

from collections.abc import Iterable

import pandas as pd
from IPython.display import HTML

from nbutils.escaping import for_page
from nbutils.runs.store import Store
from nbutils.runs.types import Run

CHART = 'class="nbutils-chart"'
PROVENANCE = 'class="nbutils-provenance"'
"""By what the book's build finds charts, and what stands under them."""


def footer_of_runs(runs: Iterable[Run], tier: str, store: Store) -> HTML:
    """The footer under what was computed or found here: its finished runs."""
    finished = [m for m in map(store.finished, runs) if m is not None]
    rows = pd.DataFrame([m.model_dump() | {"results": tier} for m in finished])
    return footer(rows, [m.key for m in finished])


def footer(manifests: pd.DataFrame, runs: Iterable[str]) -> HTML:
    """The footer under a finding: which runs, of which tier, when and on what they were made."""
    known = manifests[manifests["key"].isin(set(runs))] if len(manifests) else manifests
    if known.empty:
        return HTML(f"<p {PROVENANCE}>No runs behind this page yet.</p>")
    parts = []
    for label, part in known.groupby("results", sort=False):
        dates = sorted(str(c)[:10] for c in part["created"])
        when = dates[0] if dates[0] == dates[-1] else f"{dates[0]} to {dates[-1]}"
        versions = {f"{k} {v}" for row in part["versions"] for k, v in dict(row).items()}
        devices = ", ".join(sorted(set(part["device"].astype(str))))
        keys = " ".join(f"<code>{for_page(str(k)[:10])}</code>" for k in part["key"].unique())
        number = part["key"].nunique()
        line = f"{label}: {number} run{'s' * (number > 1)}, {when}, on {devices}"
        parts.append(
            f"<details><summary>{for_page(line)}</summary>"
            f"<p>{for_page(', '.join(sorted(versions)))}</p><p>{keys}</p></details>"
        )
    return HTML(f"<div {PROVENANCE}>{''.join(parts)}</div>")


def note(text: str) -> HTML:
    """The footer of charts that no run is behind: what they were made from instead."""
    return HTML(f"<div {PROVENANCE}><p>{for_page(text)}</p></div>")


def keys_of(states: pd.DataFrame, *experiments: str) -> list[str]:
    """Keys of the runs behind the states of some experiments."""
    part = states[states["experiment"].isin(experiments)]
    keys = [*(state.partition("@")[0] for state in part["state"]), *part["extraction_run"].dropna()]
    return list(dict.fromkeys(keys))
