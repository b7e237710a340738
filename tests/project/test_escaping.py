"""Text of others is shown as text: on a page, in a chart, in a terminal."""

import json
from collections.abc import Callable
from pathlib import Path

import altair as alt
import pandas as pd
import pytest

from nbutils.book import embed
from nbutils.charts import parts, provenance, tables
from nbutils.escaping import everywhere, for_page, visible
from nbutils.protocol import plan
from nbutils.runs import failures
from nbutils.runs.store import MANIFEST, Store
from support.fuzz_targets import KEY, MANIFEST_VALUES
from support.project import Answer, open_store

RED, TURNED, MARKUP = "\x1b[31mred", "\u202etxt.exe", "<script>alert(1)</script>[bold]:b:"
EVIL = f"{MARKUP}{RED}\r{TURNED}"
SEEN = rf"{MARKUP}\x1b[31mred\r\u202etxt.exe"


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("the king, Þór, 王, ▁of, 🙂", "the king, Þór, 王, ▁of, 🙂"),
        ("two\nlines\tand a tab", "two\nlines\tand a tab"),
        ("no\u00a0break", "no\u00a0break"),
        ("\x1b[2J\x07", r"\x1b[2J\x07"),
        ("\x9b31m", r"\x9b31m"),
        ("over\rwritten\x08", r"over\rwritten\x08"),
        ("a\u202eb\u2066c\u200fd", r"a\u202eb\u2066c\u200fd"),
        ("zero\u200bwidth\ufeff\u00ad", r"zero\u200bwidth\ufeff\xad"),
        ("line\u2028paragraph\u2029", r"line\u2028paragraph\u2029"),
        ("\ud800\ue000\U000e0041", r"\ud800\ue000\U000e0041"),
        (3, "3"),
    ],
)
def test_what_is_unseen_is_written_out(text: object, seen: str) -> None:
    assert visible(text) == seen
    assert visible(seen) == seen


def test_a_page_gets_no_markup() -> None:
    assert for_page(f"\"{EVIL}'") == (
        "&quot;&lt;script&gt;alert(1)&lt;/script&gt;[bold]:b:\\x1b[31mred\\r\\u202etxt.exe&#x27;"
    )


def clean(page: str) -> bool:
    """Whether a page shows the text and nothing acts on it."""
    return visible(page) == page and "<script>alert" not in page and r"\x1b[31mred" in page


def test_tables_sentences_and_provenance() -> None:
    """A sampled document, a column's name, a sentence, and whatever a manifest holds."""
    assert clean(str(tables.table(pd.DataFrame({"text": [EVIL]})).data))
    assert clean(str(tables.table(pd.DataFrame({EVIL: ["text"]})).data))
    assert clean(str(tables.table(pd.DataFrame({"verdict": [EVIL]})).data))
    assert clean(str(tables.sentences([EVIL]).data))
    manifest = MANIFEST_VALUES | {"device": EVIL, "versions": {EVIL: EVIL}, "results": EVIL}
    assert clean(str(provenance.footer(pd.DataFrame([manifest]), [KEY]).data))


def test_a_charts_every_text() -> None:
    """In the notebook's own output, and in the page that is made of it."""
    shown = parts._spec_only({"description": EVIL, "datasets": {"a": [{EVIL: EVIL, "n": 1.5}]}})
    assert shown["text/plain"] == SEEN
    assert shown[parts.MIME]["datasets"] == {"a": [{SEEN: SEEN, "n": 1.5}]}
    rows = pd.DataFrame({"name": [EVIL], "n": [1.5]})
    chart = alt.Chart(rows, description=EVIL).mark_point().encode(x="n:Q", y="name:N")
    page = embed.embed(parts._spec_only(chart.to_dict())[parts.MIME])
    assert page.count("</script>") == 1
    assert everywhere(page) == page


@pytest.fixture
def store(project: Path) -> Store:
    """A project with one small tier and a run that it does not need, with a name of a stranger."""
    for path in (project / "notebooks" / "tiers").glob("*.yml"):
        if path.stem != "smoke":
            path.unlink()
    found = open_store(project)
    folder = found.folder("embed_texts", KEY)
    folder.mkdir(parents=True)
    (folder / MANIFEST).write_text(json.dumps(MANIFEST_VALUES | {"name": EVIL}), "utf-8")
    return found


def test_names_of_runs_in_the_terminal(store: Store, run: Callable[..., Answer]) -> None:
    status, said, _ = run("gc")
    assert (status, SEEN in said, visible(said) == said) == (0, True, True)


def test_errors_in_the_terminal(store: Store, run: Callable[..., Answer]) -> None:
    """Of a damaged run, and what a run said when it failed."""
    status, _, errors = run("verify")
    assert (status, SEEN in errors, visible(errors) == errors) == (1, True, True)
    failed = plan.load_plan("smoke", store.root.parents[1]).model("neox-small")
    failures.record(store, failed, RuntimeError(EVIL))
    status, said, _ = run("status")
    assert (status, visible(said) == said) == (0, True)
    assert SEEN in said.replace("\n", "")  # where the line is wrapped


def test_what_is_typed_is_no_markup_either(run: Callable[..., Answer]) -> None:
    """Rich would make :b: a picture and [bold] a style."""
    _, _, errors = run("plan", f"[bold]:b:{TURNED}")
    assert r"unknown tier '[bold]:b:\u202etxt.exe'" in errors
