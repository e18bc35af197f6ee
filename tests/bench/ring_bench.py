#!/usr/bin/env python3
"""What the ring costs and what it saves, measured through `plasmid train`.

  ring_bench.py PLASMID speed    cp=2 against one rank, beside what two independent one-rank runs reach at once: two
                                 cores rarely give twice one core, so that is the ceiling of any speed-up
  ring_bench.py PLASMID memory   peak bytes of the largest rank for cp = 1, 2, 4, 8, weights and their twins apart

One thread a rank. Losses of the layouts are compared first: a fast wrong answer is no answer.
"""
import argparse
import json
import os
import pathlib
import random
import statistics
import subprocess
import tempfile

JOB = """
run_directory: "{run}"
model {{ family: GPT2 layers: {layers} width: {width} heads: {heads} }}
data {{ files: "{text}" tokenizer: BYTE sequence_length: {tokens} order: SEQUENTIAL }}
mesh {{ cp: {cp} }}
optimizer {{ learning_rate: 1e-4 }}
train {{ steps: {steps} }}
"""


def environment():
    env = dict(os.environ, OMP_NUM_THREADS="1", OMP_WAIT_POLICY="passive", OMPI_MCA_mpi_yield_when_idle="1")
    if os.geteuid() == 0:
        env.update(OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")
    return env


def start(options, folder, name, cp):
    """One run, going; its rows are read by `rows`."""
    run = folder / name
    job = folder / f"{name}.textproto"
    job.write_text(JOB.format(run=run, text=folder / "text.txt", cp=cp, **vars(options)))
    command = [options.plasmid, "train", str(job)]
    if cp > 1:
        command = ["mpirun", "--oversubscribe", "--bind-to", "none", "-n", str(cp)] + command
    return subprocess.Popen(command, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True), run


def rows(started):
    process, run = started
    error = process.communicate()[1]
    if process.returncode != 0:
        raise SystemExit(f"{run.name}: exit {process.returncode}: {error.strip()}")
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def seconds(metrics):
    return statistics.median(row["step_seconds"] for row in metrics[1:])  # the first step pays for the memory


def check(one, many):
    for a, b in zip(one, many):
        if abs(a["loss"] - b["loss"]) > 1e-5 * abs(a["loss"]):
            raise SystemExit(f"step {a['step']}: loss {b['loss']} where one rank has {a['loss']}")


def speed(options, folder):
    alone, ring, pair = [], [], []
    for repeat in range(options.repeats):
        one = rows(start(options, folder, f"one{repeat}", 1))
        cp2 = rows(start(options, folder, f"ring{repeat}", 2))
        check(one, cp2)
        both = [start(options, folder, f"pair{repeat}{side}", 1) for side in "ab"]
        alone.append(seconds(one))
        ring.append(seconds(cp2))
        pair.append(max(seconds(rows(run)) for run in both))
        print(f"  {repeat + 1}: one rank {alone[-1]:.2f} s, two such runs at once {pair[-1]:.2f} s each, "
              f"cp=2 {ring[-1]:.2f} s: {pair[-1] / 2 / ring[-1]:.3f} of the ceiling", flush=True)
    shares = sorted(p / 2 / r for p, r in zip(pair, ring))
    print(f"tokens {options.tokens}, layers {options.layers}, width {options.width}: speed-up of cp=2 "
          f"{statistics.median(alone) / statistics.median(ring):.2f}, of two independent runs "
          f"{2 * statistics.median(alone) / statistics.median(pair):.2f}; cp=2 reaches {statistics.median(shares):.3f} "
          f"of the latter (median of {len(shares)}, {shares[0]:.3f} to {shares[-1]:.3f})")


def memory(options, folder):
    weights = None
    first = None
    for cp in (1, 2, 4, 8):
        metrics = rows(start(options, folder, f"cp{cp}", cp))
        peak = max(row["peak_bytes"] for row in metrics)
        if first is None:
            first = metrics
            header = (folder / "cp1" / "checkpoints" / f"step-{options.steps}" / "model.safetensors").stat().st_size
            weights = 4 * header  # weights, gradients and two moments, f32 each
            base = peak - weights
        check(first, metrics)
        print(f"cp={cp}: peak {peak / 2**20:.1f} MiB a rank, {(peak - weights) / 2**20:.1f} beside weights: "
              f"{(peak - weights) * cp / base:.3f} of a 1/cp share")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("plasmid")
    parser.add_argument("what", choices=["speed", "memory"])
    parser.add_argument("--tokens", type=int, default=8192)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--width", type=int, default=384)
    parser.add_argument("--heads", type=int, default=6)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        letters = random.Random(1)
        (folder / "text.txt").write_bytes(bytes(letters.choices(range(97, 123), k=4 * options.tokens + 1)))
        {"speed": speed, "memory": memory}[options.what](options, folder)


if __name__ == "__main__":
    main()
