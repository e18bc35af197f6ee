"""SIGKILL to a random rank while checkpoints are written: every resume succeeds, and the run ends as if never killed.

kill_during_save.py [--kills N] [--ranks N] [--seed N]

The run saves after every step. Each round starts it again, waits until a checkpoint is being written (its temporary
folder is there), and kills one rank a random moment later. At the end the losses of all steps must be, to the bit,
those of a run that nobody killed."""

import argparse
import os
import pathlib
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time

import plasmid_command as plasmid
from plasmid_command import Enum

PATIENCE = 120  # seconds for a checkpoint to begin


def job(folder, name, steps, ranks):
    path = folder / f"{name}.textproto"
    path.write_text(plasmid.job_text({
        "run_directory": str(folder / name),
        "model": {"family": Enum("LLAMA"), "layers": 2, "width": 256, "heads": 4},
        "data": {"files": [str(plasmid.SOURCE / "cluster/data/lambda_phage.fa.gz")], "tokenizer": Enum("NUCLEOTIDE"),
                 "sequence_length": 64},
        "mesh": {"cp": ranks},
        "optimizer": {"learning_rate": 1e-3},
        "train": {"steps": steps, "batch": 1},
        "checkpoint": {"every": 1},
    }))
    return path


def partials(checkpoints):
    """What is being written, or was when a rank was killed: (name, inode)."""
    found = set()
    try:
        for entry in os.scandir(checkpoints):
            if entry.name.endswith(".partial"):
                found.add((entry.name, entry.inode()))
    except FileNotFoundError:
        pass
    return found


def wait_for_save(process, checkpoints, stale):
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until and process.poll() is None:
        if partials(checkpoints) - stale:
            return True
        time.sleep(0.0005)
    return False


def start(path, ranks):
    return subprocess.Popen(plasmid.command_line(["train", path], ranks), env=plasmid.environment(),
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def kill_one(path, checkpoints, ranks, longest, chance):
    """Kills a rank unless the run ended by itself before, and tells what was seen: the moment, the folder afterwards."""
    stale = partials(checkpoints)
    process = start(path, ranks)
    saved = wait_for_save(process, checkpoints, stale)
    for _ in range(chance.randrange(3)):  # saves that go by
        while saved and process.poll() is None and partials(checkpoints) - stale:
            time.sleep(0.0005)
        saved = wait_for_save(process, checkpoints, stale)
    delay = chance.uniform(0, longest)
    time.sleep(delay)
    victims = plasmid.processes_of(process)
    victim = chance.choice(victims)
    hit = saved and process.poll() is None and (ranks is None or victim != process.pid)
    if hit:
        os.kill(victim, signal.SIGKILL)
    else:
        process.terminate()
    output = process.communicate(timeout=plasmid.TIMEOUT)[0]
    # Its own code where there is no launcher; a launcher tells 128 and the signal of the first rank that died.
    killed = hit and process.returncode in (-signal.SIGKILL, 128 + signal.SIGKILL)
    names = sorted(os.listdir(checkpoints))
    torn = any(name.endswith(".partial") for name in names)
    told = [line for line in output.splitlines() if line.startswith(("going on from", "this run has no checkpoint"))]
    return killed, process.returncode, victims.index(victim), delay, torn, names, told, output


def losses(run):
    return [(row["step"], row["loss"], row["grad_norm"]) for row in plasmid.metrics(run)]


def seconds_of_saves(output):
    return [float(line.rsplit(" in ", 1)[1].split()[0]) for line in output.splitlines()
            if line.startswith("checkpoint: ")]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    ranks = options.ranks if plasmid.MPIEXEC else 1
    launched = ranks if ranks > 1 else None
    chance = random.Random(options.seed)
    with tempfile.TemporaryDirectory(prefix="plasmid-kill-") as name:
        folder = pathlib.Path(name)
        probe = plasmid.run(["train", job(folder, "probe", 4, ranks)], launched)
        assert probe.returncode == 0, probe.stderr
        longest = statistics.median(seconds_of_saves(probe.stdout))
        checkpoints = folder / "run/checkpoints"
        path = job(folder, "run", 10**6, ranks)
        killed = torn = 0
        while killed < options.kills:
            before = max((int(n[5:]) for n in os.listdir(checkpoints) if n.startswith("step-")), default=0) \
                if checkpoints.exists() else 0
            was_killed, code, rank, delay, was_torn, names, told, output = kill_one(path, checkpoints, launched, longest,
                                                                                    chance)
            if not was_killed or (before and not told) or "damaged" in output:
                print(f"after kill {killed}: exit {code}, after step {before}\n{output}")
                return 1
            if before and told[0] != f"going on from {checkpoints}/step-{before}":
                print(f"after kill {killed}: {told[0]}, but step-{before} was there")
                return 1
            killed += 1
            torn += was_torn
            print(f"kill {killed}: rank {rank}, {delay * 1000:.0f} ms into a save; left {' '.join(names)}", flush=True)
        reached = max(int(n[5:]) for n in os.listdir(checkpoints) if n.startswith("step-")) + 1
        last = plasmid.run(["train", job(folder, "run", reached, ranks)], launched)
        verified = plasmid.run(["checkpoint", "verify", folder / "run"])
        whole = plasmid.run(["train", job(folder, "whole", reached, ranks)], launched)
        assert (last.returncode, verified.returncode, whole.returncode) == (0, 0, 0), last.stderr + verified.stdout
        same = losses(folder / "run") == losses(folder / "whole")
        left = [n for n in os.listdir(checkpoints) if not n.startswith("step-")]
        print(f"{killed} kills, {torn} of them left a torn checkpoint; every resume went on from the newest whole one; "
              f"{reached} steps {'equal' if same else 'DIFFER FROM'} those of a run that nobody killed")
        if torn == 0:
            print("no kill hit a save: this run proves nothing")
        return 0 if same and torn > 0 and not left else 1


if __name__ == "__main__":
    sys.exit(main())
