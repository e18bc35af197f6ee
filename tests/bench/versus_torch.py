#!/usr/bin/env python3
"""Plasmid beside PyTorch, call by call in turn. The Python that runs this has torch; `ring` also needs
ring-attention-pytorch.

  versus_torch.py PLASMID attention    one causal head, forward + backward, against scaled_dot_product_attention
  versus_torch.py PLASMID step         a training step of a small GPT, against one in PyTorch, eager or compiled
  versus_torch.py PLASMID ring         attention over 2 ranks, against ring-attention-pytorch over gloo

Each contestant is a process of its own that runs once when asked; the others are halted meanwhile. Ratios are of
PyTorch's seconds to Plasmid's in the same pair: above 1, Plasmid is faster. The interval is of order statistics and holds
the median with 95 % or more. One thread is told by its CPU time, which a busy machine leaves alone; more by wall time.
"""
import argparse
import json
import math
import os
import pathlib
import signal
import statistics
import subprocess
import sys

WORKER = pathlib.Path(__file__).with_name("torch_worker.py")


class Contestant:
    """One or more processes that print a line when ready, with their ids, and then a line for each line they read."""

    def __init__(self, *commands, threads=1):
        env = dict(os.environ, OMP_NUM_THREADS=str(threads), OMPI_MCA_mpi_yield_when_idle="1",
                   GLOO_SOCKET_IFNAME="lo")
        if os.geteuid() == 0:
            env.update(OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")
        self.processes = [subprocess.Popen(list(map(str, command)), env=env, stdin=subprocess.PIPE,
                                           stdout=subprocess.PIPE, text=True) for command in commands]
        ready = [self.line(process) for process in self.processes]
        self.ready = ready[0]
        self.pids = [pid for one in ready for pid in one["pids"]]
        self.tell(signal.SIGSTOP)

    @staticmethod
    def line(process):
        text = process.stdout.readline()
        if not text:
            raise SystemExit(f"{' '.join(process.args)}: ended with {process.wait()}")
        return json.loads(text)

    def tell(self, what):
        for pid in self.pids:
            os.kill(pid, what)

    def call(self):
        """One repetition: the seconds of the slowest process."""
        self.tell(signal.SIGCONT)
        for process in self.processes:
            process.stdin.write("\n")
            process.stdin.flush()
        lines = [self.line(process) for process in self.processes]
        self.tell(signal.SIGSTOP)
        return {**lines[0], **{key: max(line[key] for line in lines) for key in ("wall", "cpu", "resident_peak")}}

    def close(self):
        self.tell(signal.SIGCONT)
        for process in self.processes:
            process.stdin.close()
        for process in self.processes:
            if process.wait() != 0:
                raise SystemExit(f"{' '.join(process.args)}: ended with {process.returncode}")


def interval(values):
    """The narrowest pair of order statistics that holds the median with 95 % or more; the ends for 6 to 8 values."""
    values, n, k, outside = sorted(values), len(values), 0, 0.0
    while outside + 2 * math.comb(n, k) / 2**n <= 0.05:
        outside += 2 * math.comb(n, k) / 2**n
        k += 1
    k = max(k, 1)
    return statistics.median(values), values[k - 1], values[n - k]


def versus(name, ours, theirs, clock, pairs):
    rows = [(ours.call(), theirs.call()) for _ in range(pairs)]
    ratio, low, high = interval([b[clock] / a[clock] for a, b in rows])
    seconds = [statistics.median(side[clock] for side in sides) for sides in zip(*rows)]
    of_fma = statistics.median(ours.ready["flops"] / a[clock] / a["fma"] for a, _ in rows)
    peaks = [max(side["resident_peak"] for side in sides) for sides in zip(*rows)]
    print(f"{name:44} {seconds[0]:9.4f} s {seconds[1]:9.4f} s  {ratio:6.2f} ({low:.2f} to {high:.2f})  "
          f"{of_fma:.3f} of the FMA loop  {peaks[0] / 2**20:7.0f} MiB {peaks[1] / 2**20:7.0f} MiB {peaks[0] / peaks[1]:.2f}",
          flush=True)
    ours.close()
    theirs.close()
    return {"name": name, "clock": clock, "plasmid_seconds": seconds[0], "torch_seconds": seconds[1],
            "ratio": {"median": ratio, "low": low, "high": high}, "of_fma": of_fma, "plasmid_peak": peaks[0],
            "torch_peak": peaks[1], "pairs": [{"plasmid": a, "torch": b} for a, b in rows]}


def bench(options, name, *arguments, threads=1, ranks=1):
    launcher = ["mpirun", "--oversubscribe", "--bind-to", "none", "-n", ranks] if ranks > 1 else []
    return Contestant([*launcher, options.plasmid, "bench", name, "--threads", threads, "--on-request", *arguments],
                      threads=threads)


def torch(*arguments, threads=1, ranks=1):
    workers = [[sys.executable, WORKER, *arguments, "--threads", threads, "--rank", rank, "--ranks", ranks]
               for rank in range(ranks)]
    return Contestant(*workers, threads=threads)


def clock_of(threads):
    return "cpu" if threads == 1 else "wall"


def attention(options):
    for d in options.d:
        for tokens in options.tokens or [2048, 8192]:
            for threads in options.threads or [1]:
                ours = bench(options, "attention", "--tokens", tokens, "--d", d, "--heads", options.heads or 1, "--pass",
                             "both", threads=threads)
                theirs = torch("attention", "--tokens", tokens, "--d", d, "--heads", options.heads or 1, threads=threads)
                yield f"attention {tokens} x {options.heads or 1} x {d}, {threads} thread(s)", ours, theirs, clock_of(threads)


def step(options):
    for tokens in options.tokens or [4096]:
        for threads in options.threads or [1, 2]:
            for mode in options.modes:
                ours = bench(options, "step", "--tokens", tokens, "--layers", options.layers, threads=threads)
                theirs = torch("step", "--tokens", tokens, "--layers", options.layers, "--mode", mode, threads=threads)
                yield f"step {tokens}, {options.layers} layers, {threads} thread(s), {mode}", ours, theirs, clock_of(threads)


def ring(options):
    for tokens in options.tokens or [4096]:
        shape = ["--tokens", tokens, "--heads", options.heads or 8, "--d", options.d[0]]
        ours = bench(options, "ring", *shape, "--pass", "both", ranks=2)
        theirs = torch("ring", *shape, ranks=2)
        print("ring-attention-pytorch, relative error of out, dq, dk, dv over 2 ranks: " +
              ", ".join(f"{error:.1e}" for error in theirs.ready["errors"]))
        yield f"ring {tokens} x {options.heads or 8} x {options.d[0]}, 2 ranks", ours, theirs, "wall"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("plasmid")
    parser.add_argument("what", choices=["attention", "step", "ring"])
    parser.add_argument("--tokens", type=int, nargs="+")
    parser.add_argument("--d", type=int, nargs="+")
    parser.add_argument("--heads", type=int)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--threads", type=int, nargs="+")
    parser.add_argument("--modes", nargs="+", default=["eager", "compiled"], choices=["eager", "compiled"])
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--json")
    options = parser.parse_args()
    if options.pairs < 7:
        parser.error("--pairs: at least 7")
    options.d = options.d or ([64, 128] if options.what == "attention" else [64])
    print(f"{'':44} {'plasmid':>11} {'torch':>11}  torch / plasmid")
    results = [versus(*case, options.pairs) for case in {"attention": attention, "step": step, "ring": ring}[options.what](options)]
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
