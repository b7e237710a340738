"""Provenance: the footer under a page's charts."""

import pandas as pd

from nbutils.charts import provenance


def test_the_footer_names_runs_devices_and_versions(tables: dict[str, pd.DataFrame]) -> None:
    """It is computed from the manifests of the runs that a page used."""
    runs = tables["corpora"]["run"].unique().tolist()
    page = str(provenance.footer(tables["manifests"], runs).data)
    assert "tiny · published" in page
    assert "tiny · your run" in page
    assert runs[0][:10] in page
    assert "torch 2.13.0" in page
    assert "2026-01-02" in page
    evil = tables["manifests"].assign(device="<b>gpu</b>")
    assert "<b>" not in str(provenance.footer(evil, runs).data)
    assert "No runs" in str(provenance.footer(pd.DataFrame(), []).data)
