#!/usr/bin/env python3
"""Attention over a ring of ranks, measured, beside what the cost model predicts of it.

  ring_model.py PLASMID --mpirun 'mpirun --host a,b,c,d --map-by node -n {n}' --ranks 2,4 --tokens 512,2048,8192

Each rank waits for the time that a kernel would take (--replay) instead of computing, so that ranks may share cores; the
links are real. For each number of ranks and of tokens a rank it runs `plasmid bench ring --replay`, which measures the
link in the same run, and prints both times and their ratio. Exit status 1 where a ratio is beyond --within.
"""
import argparse
import json
import os
import pathlib
import shlex
import subprocess
import sys
import tempfile


def integers(text):
    return [int(part) for part in text.split(",")]


def measure(options, ranks, tokens, folder):
    result = pathlib.Path(folder) / "ring.json"
    command = shlex.split(options.mpirun.format(n=ranks)) + [
        options.plasmid, "bench", "ring", "--tokens", str(ranks * tokens), "--heads", str(options.heads), "--d",
        str(options.d), "--replay", options.replay, "--threads", "1", "--repeats", str(options.repeats), "--pass",
        "forward,backward", "--json", str(result)]
    env = dict(os.environ, OMP_WAIT_POLICY="passive", OMPI_MCA_mpi_yield_when_idle="1")
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}: exit {done.returncode}: {done.stderr.strip()}")
    return json.loads(result.read_text())["rows"]


def regime(row):
    """How much of the kernel's time the transfers of the same turn take."""
    share = row["figures"]["all_hops"] / row["figures"]["tiles"]
    return "hidden" if share < 0.7 else "exposed" if share > 1.4 else "borderline"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("plasmid")
    parser.add_argument("--mpirun", default="mpirun -n {n}", help="the launcher with its options; {n}: the ranks")
    parser.add_argument("--ranks", type=integers, default=[2, 4, 8])
    parser.add_argument("--tokens", type=integers, default=[512, 2048, 8192], help="of a rank")
    parser.add_argument("--heads", type=int, default=6)
    parser.add_argument("--d", type=int, default=64)
    parser.add_argument("--replay", default="3e-9,7e-9", help="seconds of a pair and head, forward and backward")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--within", type=float, default=0.2)
    parser.add_argument("--folder", help="for results; seen by this process and by rank 0")
    options = parser.parse_args()
    worst = 0.0
    print("ranks  tokens/rank  pass      regime      link MB/s  predicted s  measured s  measured/predicted  exposed s")
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        for ranks in options.ranks:
            for tokens in options.tokens:
                for row in measure(options, ranks, tokens, folder):
                    figures = row["figures"]
                    ratio = row["median"] / figures["predicted"]
                    worst = max(worst, abs(ratio - 1))
                    print(f"{ranks:5}  {tokens:11}  {row['shape']['pass']:8}  {regime(row):10}  "
                          f"{figures['hop_rate'] / 1e6:9.1f}  {figures['predicted']:11.4f}  {row['median']:10.4f}  "
                          f"{ratio:18.3f}  {figures['exposed']:9.4f}", flush=True)
    print(f"farthest from the prediction: {100 * worst:.1f} %")
    sys.exit(worst > options.within)


if __name__ == "__main__":
    main()
