"""The book: findings executed from the tables, pages staged, Jupyter Book built offline.

Everything generated lies in git-ignored places: ``book/pages/`` (notebooks to render),
``book/_static/generated/`` (the scripts for charts and mathematics) and ``book/_build/``.
"""

import hashlib
import json
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path

import nbformat
import pandas as pd
import vl_convert

from nbutils.book import embed, explore, publish, staging
from nbutils.charts import parts, speed
from nbutils.config.notebook_parameters import FINDINGS, REPORT, STAGES
from nbutils.config.tiers import load_tier
from nbutils.errors import UserError
from nbutils.notebooks import cloud, execute, exercises
from nbutils.results import tables as results_tables
from nbutils.results.tables import PUBLISHED, available, measured, read_manifests, without_manifest
from nbutils.runs import source_code
from nbutils.runs.types import BEFORE_VERSIONS

MAIN_TIER = "tiny"  # whose runs the stage pages show, where there is a choice
PAGES = Path("book/pages")
EXECUTED = Path("runs/pages")
GENERATED = Path("book/_static/generated")
HTML = Path("book/_build/html")
ONE_PAGE = Path("book/_build/singlehtml/book/pages/opening.html")
FOR_PAPER = Path("book/_build/singlehtml/book.html")
PAPER = Path("book/_build/book.pdf")
DRAWN = "figures"  # below the staged pages: charts that were compiled before
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
WORKERS = 2


class BookError(UserError):
    """The book cannot be built: a missing package, a failed notebook, or a Sphinx warning."""


def build(root: Path) -> Path:
    """Build the whole book under the project's root and return the path of its first page.

    Findings whose source, tables and code are unchanged are not executed again. Raises
    ``BookError`` with Sphinx's own lines when the build warns about anything.
    """
    start = time.monotonic()
    for tables in available(root):
        unknown = without_manifest(tables.folder)
        if unknown:
            raise BookError(
                f"{tables.folder} has rows of {len(unknown)} runs without a manifest, for instance "
                f"{min(unknown)}: publish or run tier {tables.tier!r} again"
            )
    generate_scripts(root)
    explored(root)
    place = root / PAGES
    place.mkdir(parents=True, exist_ok=True)
    manifests = results_tables.manifests(root)
    with ThreadPoolExecutor(WORKERS) as pool:
        findings = list(pool.map(lambda name: executed(name, {}, root), FINDINGS))
        stages = list(pool.map(lambda name: stage_page(name, root), STAGES))
    sources = dict(zip([*FINDINGS, *STAGES], [*findings, *stages], strict=True))
    for name, path in sources.items():
        stage(path, place / f"{name}.ipynb", manifests, root)
    for path in place.glob("*.ipynb"):
        if path.stem not in sources:
            path.unlink()  # of a notebook that was renamed or removed
    stage_workshop(root)
    render(root)
    staging.check_site(place, root / HTML / PAGES)
    print(f"The book is built ({time.monotonic() - start:.0f} s): {root / HTML / 'index.html'}")
    return root / HTML / "index.html"


def generate_scripts(root: Path) -> None:
    """Write the chart bundle and MathJax, from the installed packages, where pages find them."""
    place = root / GENERATED
    place.mkdir(parents=True, exist_ok=True)
    stamp = place / f"vega-only-{version('vl-convert-python')}.txt"
    if not stamp.exists():
        # Charts are compiled when pages are staged, so of the bundle's libraries the page needs
        # one, and of that two names. It lies in the package under this path.
        vega = f"/npm/vega@{vl_convert.get_vega_version()}/+esm"
        bundle = vl_convert.javascript_bundle(
            f'import {{ View, parse }} from "{vega}";\nwindow.nbutilsVega = {{ View, parse }};'
        )
        # A function scope keeps the bundle's names from meeting those of the page.
        (place / "vega.js").write_text(f"(function () {{\n{bundle}\n}})();\n", "utf-8")
        stamp.write_text("The chart bundle is of this version.\n", "utf-8")
    try:
        mathjax = distribution("sphinx-mathjax-offline")
    except PackageNotFoundError as error:
        raise BookError("the package sphinx-mathjax-offline is not installed") from error
    source = Path(str(mathjax.locate_file("sphinx-mathjax-offline/static/mathjax/tex-svg.js")))
    if not (place / "tex-svg.js").exists():
        shutil.copyfile(source, place / "tex-svg.js")


def stamp(name: str, parameters: dict[str, str], root: Path) -> str:
    """The digest of all that a page is made of: its source, parameters, the tables, the code."""
    digest = hashlib.sha256(json.dumps([name, parameters]).encode())
    source = execute.sources(root)[name]
    digest.update(execute.source_digest(source).encode())
    digest.update(source_code.code_digest(source.read_text("utf-8")).encode())
    digest.update(tables_digest(root).encode())
    return digest.hexdigest()


def tables_digest(root: Path) -> str:
    """The digest of every table that pages read, and of their labels."""
    digest = hashlib.sha256()
    tables = [p for t in available(root) for p in sorted(t.folder.glob("*.*"))]
    bench = (root / "runs" / speed.MEASURED, root / PUBLISHED / speed.MEASURED)
    tables += [path for path in bench if path.is_file()]
    for path in tables:
        digest.update(path.name.encode() + hashlib.sha256(path.read_bytes()).digest())
    labels = [t.label for t in available(root)]
    digest.update(json.dumps(labels).encode())
    return digest.hexdigest()


def explored(root: Path) -> None:
    """Write the explore page's data unless they were made of the same tables by the same code."""
    place, mark = root / GENERATED / "explore", root / EXECUTED / "explore.stamp"
    wanted = tables_digest(root) + source_code.module_digest("book.explore")
    if not (place.is_dir() and mark.exists() and mark.read_text("utf-8") == wanted):
        mark.unlink(missing_ok=True)
        explore.write(root, place)
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.write_text(wanted, "utf-8")


def executed(name: str, parameters: dict[str, str], root: Path) -> Path:
    """Execute one notebook unless an execution of the same inputs exists."""
    output, mark = root / EXECUTED / f"{name}.ipynb", root / EXECUTED / f"{name}.stamp"
    wanted = stamp(name, parameters, root)
    if not (output.exists() and mark.exists() and mark.read_text("utf-8") == wanted):
        mark.unlink(missing_ok=True)
        execute.execute(name, parameters, output, root)
        mark.write_text(wanted, "utf-8")
    return output


def stage_page(name: str, root: Path) -> Path:
    """The notebook behind a stage's page.

    Of a tier that has the stage: your run's, which is executed here and reuses what was computed;
    else the published one; else the source, unexecuted. A report of one pairing would compute more
    than a tier has: it is shown as published.
    """
    yours_first = sorted(
        available(root), key=lambda t: (t.tier != MAIN_TIER, t.origin == "published")
    )
    for tables in yours_first:
        if name not in publish.pages_of(load_tier(tables.tier, root)):
            continue
        if tables.origin != "published":
            if name == REPORT:
                continue
            return executed(name, {"tier": tables.tier}, root)
        published = tables.folder / publish.PAGES
        if (published / f"{name}.ipynb").is_file():
            return published / f"{name}.ipynb"
        made = read_manifests(tables.folder)
        if published.is_dir() and any(m.version > BEFORE_VERSIONS for m in made):
            raise BookError(
                f"{published} lacks the page {name}: run `nbutils publish {tables.tier}` again"
            )
    return execute.convert(name, root)


def stage(source: Path, target: Path, manifests: pd.DataFrame, root: Path) -> None:
    """Copy a notebook to the book's pages, its charts turned into what the page can draw.

    ``manifests`` are rows of ``tables.manifests``.

    Raises:
        PageError: The page is hollow or stale.
        FooterError: A chart has no runs behind it.
    """
    notebook, name = nbformat.read(source, as_version=4), target.stem
    if source.parent != root / execute.CONVERTED:  # a source that no tier has executed
        keys = set(manifests["key"]) if len(manifests) else set()
        staging.check(notebook, name, keys)
    cloud.introduce(notebook, cloud.buttons(name, root))
    staging.introduce(notebook, name, root, manifests)
    staging.show_method(notebook, name, root)
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            spec = output.get("data", {}).pop(parts.MIME, None)
            if spec is not None:
                output["data"] = {"text/html": embed.cached(spec, target.parent / DRAWN)}
    staging.add(notebook, name, [t.tier for t in available(root)])
    put(nbformat.writes(notebook) + "\n", target)


def put(text: str, target: Path) -> None:
    """Write a page; an unchanged one keeps its time, so that Sphinx does not read it again."""
    if not target.exists() or target.read_text("utf-8") != text:
        target.write_text(text, "utf-8")


def stage_workshop(root: Path) -> None:
    """Put the exercises, their solutions for download and the agenda where pages find them."""
    target = root / PAGES / "workshop"
    (target / exercises.SOLUTIONS).mkdir(parents=True, exist_ok=True)
    for name, notebook in exercises.made(root).items():
        put(nbformat.writes(notebook) + "\n", target / name)
    put(exercises.agenda(measured(exercises.MEASURED, root)), target / "agenda.md")


def render(root: Path, builder: str = "html") -> None:
    """Run Jupyter Book on the staged pages; any warning is an error."""
    run = "from jupyter_book.cli.main import main; main()"
    command = [sys.executable, "-c", run, "build", str(root)]
    command += ["--path-output", str(root / "book"), "-W", "-n", "--keep-going", "-q"]
    command += ["--builder", builder]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", cwd=root)
    if done.returncode == 0:
        return
    plain = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout + done.stderr)
    told = [line for line in plain.splitlines() if re.search(r"WARNING|ERROR|Error:", line)]
    raise BookError("the book was not built:\n" + "\n".join(told or plain.splitlines()[-20:]))


def pdf(root: Path) -> Path:
    """Print the book, as it was staged last, and return the path of the PDF.

    All pages become one, which Chromium prints with still charts. Raises ``BookError`` where there
    is no Chromium, or the book was never built.
    """
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        raise BookError(
            f"printing needs one of {', '.join(BROWSERS)} on the path: install chromium, or print "
            "single pages from any browser"
        )
    if not (root / HTML / "index.html").is_file():
        raise BookError("there is no built book: run make html first")
    render(root, "singlehtml")
    page, paper = (root / place for place in (FOR_PAPER, PAPER))
    # Sphinx writes it below the folder that its links to styles and pictures start from
    shutil.copy(root / ONE_PAGE, page)
    paper.unlink(missing_ok=True)
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--no-pdf-header-footer"]
    command += ["--virtual-time-budget=60000", f"--print-to-pdf={paper}", page.resolve().as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    if done.returncode != 0 or not paper.is_file():
        raise BookError("the book was not printed:\n" + done.stderr[-1000:])
    print(f"The book is printed: {paper}")
    return paper
