"""A SLURM cluster of two nodes on this machine, from Debian's slurmctld, slurmd and munge.

It lives in a folder of its own, with ports and keys of its own, and ends with its context.
"""

import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

DAEMONS = ("munged", "slurmctld", "slurmd")
NODES = 2
PATIENCE = 120.0  # seconds until the nodes must be idle

CONFIGURATION = """\
ClusterName=pretended
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
GresTypes=gpu
MinJobAge=300
SlurmdParameters=config_overrides
ReturnToService=2
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
NODE = (
    "NodeName=n{n} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} "
    "CPUs=2 RealMemory=64000 Gres=gpu:1\n"
)


def missing() -> list[str]:
    """What a cluster here lacks: programs, or the right to start them."""
    lacking = [name for name in DAEMONS if shutil.which(name) is None]
    return lacking if os.geteuid() == 0 else [*lacking, "root"]


def _ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@contextmanager
def cluster(folder: Path) -> Iterator[dict[str, str]]:
    """Start the cluster; gives the environment in which SLURM's commands reach it."""
    host = socket.gethostname()
    controller, *ports = _ports(1 + NODES)
    (folder / "state").mkdir(parents=True)
    (folder / "key").write_bytes(secrets.token_bytes(1024))
    (folder / "key").chmod(0o400)
    text = CONFIGURATION.format(host=host, controller=controller, folder=folder)
    for n, port in enumerate(ports):
        text += NODE.format(n=n, host=host, port=port)
    (folder / "slurm.conf").write_text(text, "utf-8")
    _wrap_srun(folder)
    (folder / "gres.conf").write_text("Name=gpu File=/dev/null\n", "utf-8")
    path = f"{folder}:{os.environ['PATH']}"
    environment = {"SLURM_CONF": str(folder / "slurm.conf"), "PATH": path}
    own = {"key-file": "key", "socket": "munge.socket", "pid-file": "munge.pid"}
    own |= {"log-file": "munge.log", "seed-file": "munge.seed"}
    munged = [f"--{option}={folder / name}" for option, name in own.items()]
    daemons = {"munged": ["munged", "-F", "-f", *munged], "slurmctld": ["slurmctld", "-D"]}
    daemons |= {f"n{n}": ["slurmd", "-D", "-N", f"n{n}"] for n in range(NODES)}
    with ExitStack() as stack:
        for name, command in daemons.items():
            log = stack.enter_context((folder / f"{name}.log").open("w"))
            daemon = subprocess.Popen(
                command, env=os.environ | environment, stdout=log, stderr=log, cwd=folder
            )
            stack.callback(_end, daemon)
        _wait(environment)
        yield environment


def _wrap_srun(folder: Path) -> None:
    """An srun that knows the cluster: Snakemake drops the variable that says where its file is."""
    wrapper = folder / "srun"
    real = shutil.which("srun")
    wrapper.write_text(f'#!/bin/sh\nSLURM_CONF={folder}/slurm.conf exec {real} "$@"\n', "utf-8")
    wrapper.chmod(0o755)


def _end(daemon: subprocess.Popen) -> None:
    daemon.terminate()
    try:
        daemon.wait(10)
    except subprocess.TimeoutExpired:
        daemon.kill()
        daemon.wait()


def _wait(environment: dict[str, str]) -> None:
    """Return when every node is idle."""
    ends = time.monotonic() + PATIENCE
    said = ""
    while time.monotonic() < ends:
        asked = subprocess.run(
            ["sinfo", "--noheader", "--Node", "--format=%N %t"], env=os.environ | environment,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        said = asked.stdout + asked.stderr
        if said.split()[1::2] == ["idle"] * NODES:
            return
        time.sleep(0.5)
    raise RuntimeError(f"the nodes are not idle after {PATIENCE:.0f} s: {said}")
