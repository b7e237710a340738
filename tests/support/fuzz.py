"""Throws files at one parser for so many seconds, guided by the code that they reach (atheris).

    python -m fuzz.run tier|manifest|archive SECONDS|FILE

A crash, an input that takes longer than a minute or a process that grows beyond its limit ends
it with a status that is not zero. The input lies in ``runs/fuzz/``; as FILE it is thrown again.
"""

import sys
import tempfile
from pathlib import Path

import atheris
import pytest

with atheris.instrument_imports(include=["nbutils", "yaml"]):
    from support import contributed
    from support import fuzz_targets as targets

from support.tiny import REPOSITORY

FOUND = REPOSITORY / "runs" / "fuzz"


def main(name: str, limit: str) -> None:
    """Throw files at one target, or one file that was found before."""
    work = Path(tempfile.mkdtemp(prefix="fuzz-"))
    with pytest.MonkeyPatch.context() as patch:
        contributed.make_up(patch)
        given = contributed.packed(contributed.project(work / "theirs"))
    ours = contributed.project(work / "ours")
    checks = {
        "tier": targets.tier(ours),
        "manifest": targets.manifest(ours),
        "archive": targets.archive(ours),
    }
    if not limit.isdecimal():
        return checks[name](Path(limit).read_bytes())
    corpus = work / "corpus"
    corpus.mkdir()
    for number, seed in enumerate(targets.seeds(name, given)):
        (corpus / str(number)).write_bytes(seed)
    FOUND.mkdir(parents=True, exist_ok=True)
    options = {
        "max_total_time": limit,
        "timeout": 60,  # seconds of one input, on a busy machine too
        "rss_limit_mb": 4096,  # of the process, in which torch is loaded
        "max_len": 60_000,
        "artifact_prefix": f"{FOUND}/{name}-",
        "print_final_stats": 1,
    }
    flags = [f"-{option}={value}" for option, value in options.items()]
    atheris.Setup([sys.argv[0], str(corpus), *flags], checks[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])
