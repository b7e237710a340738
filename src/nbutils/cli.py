"""The command line: plan, run, inspect and publish tiers; notebooks, the workshop, the book."""

import json
import shutil
import sys
from collections import Counter
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from nbutils import errors
from nbutils.config import notebook_parameters, parameter_options
from nbutils.config.tiers import project_root
from nbutils.escaping import Terminal
from nbutils.protocol import pairing, schedule
from nbutils.protocol.plan import Plan
from nbutils.results import layout
from nbutils.results.project import Project
from nbutils.runs import dag, eta, executor, failures, garbage
from nbutils.runs.types import Run, RunError

if TYPE_CHECKING:
    from nbutils.results.stream import Stream

app = typer.Typer(
    help="An executable book: can a language model learn from its own text?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
# A pipe has no width; this one fits a run on one line.
out = Terminal(highlight=False, emoji=False, width=None if sys.stdout.isatty() else 160)
err = Terminal(stderr=True, highlight=False, emoji=False, soft_wrap=True)

TierArgument = Annotated[str, typer.Argument(help="a file under notebooks/tiers/: tiny, smoke")]


@app.command()
def plan(
    tier: TierArgument,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON for other programs")] = False,
) -> None:
    """Print the runs of a tier: which are finished, which would run, and why."""
    project = Project.here()
    wanted = project.plan(tier)
    planned = dag.plan(schedule.of_tier(wanted), project.store)
    if as_json:
        data = {"tier": tier, "threads": wanted.tier.threads, "runs": dag.as_data(planned)}
        return print(json.dumps(data))  # ASCII, so the encoding of the terminal does not matter
    table = Table("state", "stage", "run", "key", "why", box=None, pad_edge=False)
    for p in planned:
        name = escape(p.run.name.split(": ", 1)[-1])
        table.add_row(p.state, p.run.stage, name, p.key or "", escape(p.why))
    out.print(table)
    counts = Counter(p.state for p in planned)
    out.print(f"{len(planned)} runs: " + ", ".join(f"{n} {s}" for s, n in counts.items()))


DryRun = Annotated[bool, typer.Option("--dry-run", help="print the expected cost, and stop")]
Parameters = Annotated[
    list[str],
    typer.Option("-p", metavar="KEY VALUE", help="one parameter, as YAML; repeat for more"),
]


def _print_card(runs: list[Run], planned: Plan, project: Project, workers: int) -> None:
    """Print what those of some runs that are missing will cost."""
    from nbutils.protocol import cost_card, reading

    card = project.card(runs, planned, workers)
    rows = cost_card.rows(card)
    table = Table(*rows.columns, box=None, pad_edge=False)
    for row in rows.itertuples(index=False):
        table.add_row(*(escape(str(cell)) for cell in row))
    out.print(table)
    for sentence in (*cost_card.sentences(card), *reading.ways(runs, project.store)):
        out.print(escape(sentence))


@app.command()
def run(
    tier: TierArgument,
    dry_run: DryRun = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="retry runs that failed before")
    ] = False,
    only: Annotated[
        tuple[str, str] | None,
        typer.Option(metavar="STAGE NAME", help="compute only this run, and write no tables"),
    ] = None,
    hold: Annotated[
        int, typer.Option(min=0, help="lock this many accelerators against other calls")
    ] = 0,
) -> None:
    """Compute the missing runs of a tier, then write its tables to runs/tables/."""
    from nbutils.results import collect, tables
    from nbutils.results.stream import Stream
    from nbutils.runs import gpus

    project = Project.here()
    planned = project.plan(tier)
    runs = [schedule.named(planned, *only)] if only else schedule.of_tier(planned)
    if dry_run:
        workers = executor.jobs(planned.tier.threads, eta.peak_memory(project.recorded(runs)))
        return _print_card(runs, planned, project, workers)
    with gpus.held(hold):
        if only:
            return _run_one(runs[0], project, planned.tier.threads, retry_failed)
        stream = Stream(tier, runs, project, lambda said: out.print(escape(said), soft_wrap=True))
        try:
            computed = _with_progress(runs, project, planned.tier.threads, retry_failed, stream)
        except RunError:
            stream.update()  # what was finished meanwhile stands in the tables, too
            raise
    with garbage.damage_reported(project.store, project.store.all()):
        written = collect.collect(tier, runs, project)
    place = layout.LOCAL / tier
    if written:
        stream.judge(tables.read(project.root / place))
    if computed == 0 and not written:
        out.print(f"Nothing to do: all {len(runs)} runs of tier {tier} and their tables exist.")
    else:
        out.print(f"{computed} runs computed, {len(runs) - computed} reused; tables in {place}/")


def _run_one(run: Run, project: Project, threads: int, retry_failed: bool) -> None:
    """Compute one run whose inputs are finished, for another scheduler."""
    store, name = project.store, escape(run.name)
    missing = [source for source in run.inputs.values() if store.finished(source) is None]
    if missing:
        first = f"{missing[0].stage} of {missing[0].name}"
        raise RunError(f"{run.stage} of {run.name} needs unfinished inputs: run {first} first")
    if _with_progress([run], project, threads, retry_failed) == 0:
        out.print(f"Nothing to do: {run.stage} of {name} exists.")


def _with_progress(
    runs: list[Run],
    project: Project,
    threads: int,
    retry_failed: bool,
    stream: "Stream | None" = None,
) -> int:
    """Execute runs with one line per run, and a progress bar if the output is a terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=out, transient=True, disable=not out.is_terminal) as bar:
        task = bar.add_task("starting", total=len(runs))

        def report(done: Run, seconds: float, count: int, total: int, left: float | None) -> None:
            estimate = "" if left is None else f", about {eta.duration(left)} left"
            name = escape(done.name)
            out.print(f"{count}/{total} {done.stage} · {name} ({eta.duration(seconds)}){estimate}")
            bar.update(task, completed=count, description=f"{count}/{total} runs{estimate}")
            if stream:
                stream.finished()

        meanwhile = stream.update if stream else lambda: None
        return project.execute(runs, threads, report, retry_failed, meanwhile)


@app.command()
def status() -> None:
    """Show the stages of every tier: runs by state, size, time spent and left."""
    project = Project.here()
    store = project.store
    counts = ("done", "running", "failed", "missing")
    table = Table("tier", "stage", *counts, "size", "CPU time spent", "CPU time left", box=None)
    failed: dict[str, failures.Failure] = {}
    for tier in project.tiers():
        try:
            runs = schedule.of_tier(project.plan(tier))
            stages = eta.progress_of_stages(runs, store, eta.durations(project.recorded(runs)))
        except errors.UserError as error:  # an error in its file, or an unavailable model
            out.print(f"{tier} cannot be planned: {escape(str(error))}")
            continue
        for s in stages:
            numbers = (s.done, s.running, s.failed, s.missing)
            left = "unknown" if s.left is None else eta.duration(s.left)
            size, spent = f"{s.size / 2**20:.1f} MiB", eta.duration(s.spent)
            table.add_row(tier, s.stage, *map(str, numbers), size, spent, left)
        recorded = (failures.find(store, run) for run in runs if store.finished(run) is None)
        failed |= {failure.key: failure for failure in recorded if failure}
    out.print(table)
    for failure in failed.values():
        where = failures.path(store, failure.key).relative_to(project.root)
        out.print(f"failed: {failure.stage} of {escape(failure.name)}: {escape(failure.message)}")
        out.print(f"        at {failure.created}; parameters and traceback: {where}")
    out.print("CPU time left: of all runs together, by recorded times, local or published.")
    out.print(f"free on the disk: {shutil.disk_usage(project.root).free / 2**30:.1f} GiB")


@app.command()
def publish(tier: TierArgument) -> None:
    """Copy the tables of a complete tier, with manifests and pages, to book/results/."""
    from nbutils.book import publish as publishing

    project = Project.here()
    place = publishing.publish(tier, project)
    out.print(f"Published: {place.relative_to(project.root)}")


@app.command()
def verify(
    tier: Annotated[str, typer.Argument(help="a published tier; without it, the store")] = "",
) -> None:
    """Check a published tier (digests, manifests, summaries), or all files of the store."""
    project = Project.here()
    if tier:
        from nbutils.book import publish as publishing

        files = publishing.verify(tier, project.root)
        out.print(f"Tier {tier}: {files} files are as published, and the summaries follow.")
        return
    store = project.store
    damaged = list(garbage.damage(store, store.all()))
    if damaged:
        raise RunError("\n".join(damaged))
    out.print(f"{len(store.all())} runs are as they were written.")


@app.command()
def gc(
    delete: Annotated[bool, typer.Option("--delete", help="delete them, too")] = False,
) -> None:
    """List runs that no tier file needs, and unfinished folders that no process uses."""
    project = Project.here()
    store, wanted = project.store, project.wanted()
    runs, folders = garbage.unneeded(store, wanted), garbage.leftovers(store, wanted)
    table = Table("stage", "run", "key", "made", "size", box=None)
    total = 0
    for m in runs:
        size = store.size(m)
        total += size
        table.add_row(m.stage, escape(m.name), m.key, m.created[:10], f"{size / 2**20:.1f} MiB")
    out.print(table)
    summary = f"{len(runs)} runs, {total / 2**20:.1f} MiB, and {len(folders)} unfinished folders"
    if not delete:
        out.print(f"{summary}: `nbutils gc --delete` deletes them")
        return
    for manifest in runs:
        garbage.delete(store, manifest)
    for folder in folders:
        garbage.clear(store, folder)
    out.print(f"deleted: {summary}")


@app.command()
def contribute(parameter: Parameters = []) -> None:  # noqa: B006 - typer copies it
    """Pack one pairing that you computed, named by its parameters, into a file for others."""
    from nbutils.results import contribute as contributing

    project = Project.here()
    asked = parameter_options.check("pairing", parameter)
    assert isinstance(asked, notebook_parameters.ReportNotebook)
    place = contributing.contribute(asked, project)
    size = place.stat().st_size / 1000
    out.print(
        f"Packed: {place.relative_to(project.root)} ({size:.0f} kB); others `nbutils accept` it."
    )


@app.command()
def accept(
    file: Annotated[Path, typer.Argument(help="what `nbutils contribute` packed")],
) -> None:
    """Check a contribution and add its pairing to the published results."""
    from nbutils.book import publish as publishing

    given, added = publishing.accept(file, Project.here())
    name, tier = escape(given.trained.name), given.pairing.tier
    if added:
        out.print(f"Accepted: {name}; now in {layout.PUBLISHED / tier}/")
    else:
        out.print(f"Nothing to do: tier {tier} has {name} already.")


@app.command()
def notebook(
    name: Annotated[str, typer.Argument(help="a notebook under notebooks/, without .py")],
    parameter: Parameters = [],  # noqa: B006 - typer copies it
    output: Annotated[
        Path | None,
        typer.Option(help="where the executed notebook goes [runs/executed/NAME.ipynb]"),
    ] = None,
    dry_run: DryRun = False,
) -> None:
    """Execute one notebook with Papermill, its parameters checked before a kernel starts.

    Write each parameter as `-p key=value` or as `-p key value`.
    """
    from nbutils.notebooks import execute

    project = Project.here()
    checked = parameter_options.check(name, parameter)
    if dry_run:
        if not isinstance(checked, notebook_parameters.ReportNotebook):
            raise errors.ParameterError("--dry-run is for the pairing notebook and for `run TIER`")
        planned, selected = pairing.from_parameters(checked, project.plan(checked.tier))
        return _print_card(schedule.of_report(planned, selected), planned, project, workers=1)
    place = output or project.root / "runs" / "executed" / f"{name}.ipynb"
    execute.execute(name, checked.model_dump(mode="json", exclude_unset=True), place, project.root)
    out.print(f"Executed: {escape(str(place))}")


@app.command()
def convert(
    name: Annotated[str, typer.Argument(help="a notebook under notebooks/, without .py")],
) -> None:
    """Write runs/notebooks/NAME.ipynb for raw Papermill and for Jupyter."""
    from nbutils.notebooks import execute

    root = project_root()
    out.print(str(execute.convert(name, root).relative_to(root)))


@app.command()
def launch(
    folder: Annotated[Path, typer.Argument(help="where to write; Binder expects runs/launch")],
) -> None:
    """Write the notebooks that the links on the pages open on Colab and Binder."""
    from nbutils.notebooks import cloud

    cloud.write(folder, project_root())
    out.print(f"Notebooks to launch: {folder}/")


@app.command()
def workshop(
    rehearse: Annotated[
        bool, typer.Option("--rehearse", help="execute every solution, and print its time")
    ] = False,
) -> None:
    """Write the workshop's notebooks to runs/workshop/, with and without gaps."""
    from nbutils.notebooks import exercises

    root = project_root()
    for path in exercises.hand_out(root):
        out.print(f"Not overwritten, since it may hold answers: {path.relative_to(root)}")
    out.print(f"For participants: {exercises.HANDED_OUT}/; the solutions are in a folder there.")
    if not rehearse:
        return
    measurements = exercises.rehearse(root, lambda name, s: out.print(f"{name}: {s:.0f} s"))
    seconds = sum(row["seconds"] for row in measurements["rows"])
    out.print(f"Every solution passes its checks; {seconds:.0f} s of computing, from nothing.")


@app.command()
def html() -> None:
    """Build the book from the published tables and, where they exist, those of your runs."""
    from nbutils.book import build

    build.build(project_root())


@app.command()
def pdf() -> None:
    """Print the built book as one PDF with still charts; this needs Chromium."""
    from nbutils.book import build

    build.pdf(project_root())


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; errors of the user are one message with exit status 1."""
    try:
        app(parameter_options.join_pairs(sys.argv[1:] if arguments is None else arguments))
    except errors.UserError as error:
        message = str(error)
    except OSError as error:
        if error.filename is None:  # the user cannot repair an unnamed place
            raise
        message = (
            f"{error.filename}: {error.strerror}: this place is needed, so make it readable and "
            "writable, or name another one"
        )
    else:
        return 0
    err.print(f"[bold red]error:[/] {escape(message)}")
    return 1


def entry() -> None:
    """Entry point of the ``nbutils`` command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # for characters that the terminal lacks
    raise SystemExit(main())
