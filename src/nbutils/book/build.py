"""Building the book: findings are executed, pages staged, and Jupyter Book is run offline.

All generated files are in folders that git ignores: ``book/pages/`` (notebooks to render),
``book/_static/generated/`` (scripts for charts and mathematics) and ``book/_build/``.
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
from nbutils.results.layout import PUBLISHED, read_manifests
from nbutils.results.tables import available, measured, without_manifest
from nbutils.runs import source_code
from nbutils.runs.types import BEFORE_VERSIONS

MAIN_TIER = "tiny"  # the tier that stage pages show, if it has results
PAGES = Path("book/pages")
EXECUTED = Path("runs/pages")
GENERATED = Path("book/_static/generated")
HTML = Path("book/_build/html")
ONE_PAGE = Path("book/_build/singlehtml/book/pages/opening.html")
FOR_PAPER = Path("book/_build/singlehtml/book.html")
PAPER = Path("book/_build/book.pdf")
DRAWN = "figures"  # folder of compiled charts, in that of the staged pages
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
WORKERS = 2


class BookError(UserError):
    """The book cannot be built or printed."""


def build(root: Path) -> Path:
    """Build the whole book under the project's root and return the path of its first page.

    Findings whose source, tables and code are unchanged are not executed again.

    Raises:
        BookError: A table has runs without a manifest, a published page is missing, or Sphinx
            warns about anything.
        NotebookError: A notebook failed.
        PageError: A page is hollow or stale.
        FooterError: A page has a chart but no footer.
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
    write_explore(root)
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
            path.unlink()  # its notebook was renamed or removed
    stage_workshop(root)
    render(root)
    staging.check_site(place, root / HTML / PAGES)
    print(f"The book is built ({time.monotonic() - start:.0f} s): {root / HTML / 'index.html'}")
    return root / HTML / "index.html"


def generate_scripts(root: Path) -> None:
    """Write the script for charts and MathJax, from installed packages, to the generated files.

    Raises:
        BookError: The package with MathJax is not installed.
    """
    place = root / GENERATED
    place.mkdir(parents=True, exist_ok=True)
    stamp = place / f"vega-only-{version('vl-convert-python')}.txt"
    if not stamp.exists():
        # Charts are compiled when pages are staged, so pages need only two names of one library,
        # which the package has under this path.
        vega = f"/npm/vega@{vl_convert.get_vega_version()}/+esm"
        bundle = vl_convert.javascript_bundle(
            f'import {{ View, parse }} from "{vega}";\nwindow.nbutilsVega = {{ View, parse }};'
        )
        # A function scope separates the bundle's names from those of the page.
        (place / "vega.js").write_text(f"(function () {{\n{bundle}\n}})();\n", "utf-8")
        stamp.write_text("The chart bundle is of this version.\n", "utf-8")
    try:
        mathjax = distribution("sphinx-mathjax-offline")
    except PackageNotFoundError as error:
        raise BookError(
            "the package sphinx-mathjax-offline is not installed: pip install it and build again"
        ) from error
    source = Path(str(mathjax.locate_file("sphinx-mathjax-offline/static/mathjax/tex-svg.js")))
    if not (place / "tex-svg.js").exists():
        shutil.copyfile(source, place / "tex-svg.js")


def stamp(name: str, parameters: dict[str, str], root: Path) -> str:
    """The digest of everything that a page depends on: source, parameters, tables and code."""
    digest = hashlib.sha256(json.dumps([name, parameters]).encode())
    source = execute.sources(root)[name]
    digest.update(execute.source_digest(source).encode())
    digest.update(source_code.code_digest(source.read_text("utf-8")).encode())
    digest.update(tables_digest(root).encode())
    return digest.hexdigest()


def tables_digest(root: Path) -> str:
    """The digest of all tables that pages read, and of their result labels."""
    digest = hashlib.sha256()
    files = [p for t in available(root) for p in sorted(t.folder.glob("*.*"))]
    bench = (root / "runs" / speed.MEASURED, root / PUBLISHED / speed.MEASURED)
    files += [path for path in bench if path.is_file()]
    for path in files:
        digest.update(path.name.encode() + hashlib.sha256(path.read_bytes()).digest())
    labels = [t.label for t in available(root)]
    digest.update(json.dumps(labels).encode())
    return digest.hexdigest()


def write_explore(root: Path) -> None:
    """Write the data of the explore page unless they are up to date with tables and code."""
    place, stamp_file = root / GENERATED / "explore", root / EXECUTED / "explore.stamp"
    digest = tables_digest(root) + source_code.module_digest("book.explore")
    if not (place.is_dir() and stamp_file.exists() and stamp_file.read_text("utf-8") == digest):
        stamp_file.unlink(missing_ok=True)
        explore.write(root, place)
        stamp_file.parent.mkdir(parents=True, exist_ok=True)
        stamp_file.write_text(digest, "utf-8")


def executed(name: str, parameters: dict[str, str], root: Path) -> Path:
    """The path of an executed notebook; it is executed unless its stamp is up to date."""
    output, stamp_file = root / EXECUTED / f"{name}.ipynb", root / EXECUTED / f"{name}.stamp"
    digest = stamp(name, parameters, root)
    if not (output.exists() and stamp_file.exists() and stamp_file.read_text("utf-8") == digest):
        stamp_file.unlink(missing_ok=True)
        execute.execute(name, parameters, output, root)
        stamp_file.write_text(digest, "utf-8")
    return output


def stage_page(name: str, root: Path) -> Path:
    """The notebook for the page of a stage.

    The first tier with this stage decides: a local run is executed here, from its finished runs; a
    published tier has the executed notebook. Without such a tier it is the source, unexecuted. The
    report of one pairing is never executed here, since it computes more than its tier, and neither
    is a page of an unfinished tier.

    Raises:
        BookError: A published tier lacks the page.
    """
    local_first = sorted(
        available(root), key=lambda t: (t.tier != MAIN_TIER, t.origin == "published")
    )
    for tables in local_first:
        if tables.unfinished:  # the page would compute what is missing
            continue
        if name not in publish.pages_of(load_tier(tables.tier, root)):
            continue
        if tables.origin != "published":
            if name == REPORT:
                continue
            return executed(name, {"tier": tables.tier}, root)
        published = tables.folder / publish.PAGES
        if (published / f"{name}.ipynb").is_file():
            return published / f"{name}.ipynb"
        manifests = read_manifests(tables.folder)
        if published.is_dir() and any(m.version > BEFORE_VERSIONS for m in manifests):
            raise BookError(
                f"{published} lacks the page {name}: run `nbutils publish {tables.tier}` again"
            )
    return execute.convert(name, root)


def stage(source: Path, target: Path, manifests: pd.DataFrame, root: Path) -> None:
    """Copy a notebook to the book's pages, with its charts as HTML.

    ``manifests`` are rows of ``tables.manifests``.

    Raises:
        PageError: The page is hollow or stale.
        FooterError: The page has a chart but no footer.
    """
    notebook, name = nbformat.read(source, as_version=4), target.stem
    if source.parent != root / execute.CONVERTED:  # notebooks in that folder are unexecuted
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
    """Write a page unless it is unchanged, so that Sphinx does not read it again."""
    if not target.exists() or target.read_text("utf-8") != text:
        target.write_text(text, "utf-8")


def stage_workshop(root: Path) -> None:
    """Write the exercises, their solutions and the agenda to the book's pages."""
    target = root / PAGES / "workshop"
    (target / exercises.SOLUTIONS).mkdir(parents=True, exist_ok=True)
    for name, notebook in exercises.made(root).items():
        put(nbformat.writes(notebook) + "\n", target / name)
    put(exercises.agenda(measured(exercises.MEASURED, root)), target / "agenda.md")


def render(root: Path, builder: str = "html") -> None:
    """Run Jupyter Book on the staged pages.

    Raises:
        BookError: There is a warning or an error; the message has the lines of Sphinx.
    """
    run = "from jupyter_book.cli.main import main; main()"
    command = [sys.executable, "-c", run, "build", str(root)]
    command += ["--path-output", str(root / "book"), "-W", "-n", "--keep-going", "-q"]
    command += ["--builder", builder]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", cwd=root)
    if done.returncode == 0:
        return
    plain = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout + done.stderr)
    lines = [line for line in plain.splitlines() if re.search(r"WARNING|ERROR|Error:", line)]
    raise BookError("the book was not built:\n" + "\n".join(lines or plain.splitlines()[-20:]))


def pdf(root: Path) -> Path:
    """Print the book as it was last staged, and return the path of the PDF.

    All pages are joined into one, which Chromium prints with still charts.

    Raises:
        BookError: Chromium is missing or fails, or the book was never built.
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
    # its links to styles and pictures are relative to the folder of this copy
    shutil.copy(root / ONE_PAGE, page)
    paper.unlink(missing_ok=True)
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--no-pdf-header-footer"]
    command += ["--virtual-time-budget=60000", f"--print-to-pdf={paper}", page.resolve().as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    if done.returncode != 0 or not paper.is_file():
        raise BookError("the book was not printed:\n" + done.stderr[-1000:])
    print(f"The book is printed: {paper}")
    return paper
