"""Runs the built `plasmid`, alone or over MPI ranks, and reads what it leaves behind.

From the environment: PLASMID (the program), MPIEXEC (the launcher with its flags, up to the number of ranks; absent in a
build without MPI), PLASMID_SOURCE (the repository)."""

import json
import os
import pathlib
import shlex
import struct
import subprocess

PROGRAM = pathlib.Path(os.environ["PLASMID"])
SOURCE = pathlib.Path(os.environ["PLASMID_SOURCE"])
MPIEXEC = shlex.split(os.environ.get("MPIEXEC", ""))
TIMEOUT = 600  # a hang becomes a failure


def environment():
    return {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", "OMPI_ALLOW_RUN_AS_ROOT": "1",
            "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", "OMPI_MCA_mpi_yield_when_idle": "1",
            "OMPI_MCA_btl_vader_single_copy_mechanism": "none"}


def command_line(arguments, ranks=None, extra=()):
    """ranks: None starts the program itself, a number starts it over the MPI launcher, with `extra` flags."""
    launcher = [] if ranks is None else MPIEXEC[:1] + list(extra) + MPIEXEC[1:] + [str(ranks)]
    return launcher + [str(PROGRAM)] + [str(argument) for argument in arguments]


def run(arguments, ranks=None, cwd=None):
    return subprocess.run(command_line(arguments, ranks), cwd=cwd, env=environment(), capture_output=True, text=True,
                          timeout=TIMEOUT)


def start(arguments, ranks=None):
    # Open MPI kills what still runs this many seconds after it passed a signal on.
    patient = {**environment(), "OMPI_MCA_odls_base_sigkill_timeout": "10"}
    return subprocess.Popen(command_line(arguments, ranks), env=patient, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True)


def wait_for_step(process, step):
    """Reads standard output up to the line of a step."""
    for line in process.stdout:
        if line.startswith(f"step {step}/"):
            return
    raise AssertionError(f"step {step} never came: {process.stderr.read()}")


def processes_of(launcher):
    """Process ids of the program below a launcher, or the launcher itself where there is none."""
    children = {}
    for status in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rsplit(")", 1)[1].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        children.setdefault(int(fields[1]), []).append(int(status.parent.name))
    return sorted(pid for pid in children.get(launcher.pid, []) if name_of(pid) == PROGRAM.name) or [launcher.pid]


def name_of(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/comm").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def our_lines(stderr):
    return [line for line in stderr.splitlines() if line.startswith("plasmid: ")]


def job_text(fields):
    """A textproto of {"model": {...}, ...}: strings quoted, {enumerators} given as Enum."""
    def value(content):
        if isinstance(content, dict):
            return "{ " + " ".join(entry(*item) for item in content.items()) + " }"
        if isinstance(content, bool):
            return str(content).lower()
        return json.dumps(content) if not isinstance(content, Enum) else content.name

    def entry(name, content):
        if isinstance(content, list):
            return " ".join(entry(name, item) for item in content)
        return f"{name}: {value(content)}" if not isinstance(content, dict) else f"{name} {value(content)}"

    return "\n".join(entry(*item) for item in fields.items()) + "\n"


class Enum:
    def __init__(self, name):
        self.name = name


def metrics(run_directory):
    with open(pathlib.Path(run_directory) / "metrics.jsonl") as rows:
        return [json.loads(row) for row in rows]


def exit_record(run_directory):
    return json.loads((pathlib.Path(run_directory) / "exit.json").read_text())


def safetensors_header(path):
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        return json.loads(file.read(length))
