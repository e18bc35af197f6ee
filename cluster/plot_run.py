#!/usr/bin/env python3
"""Draws the loss of runs as a picture: bits over the tokens trained on, of each step faintly, their moving mean,
the evaluations of held-out data as points, and what the best Markov model makes of the same held-out data as a line.

Example: python3 cluster/plot_run.py runs/ecoli -o ecoli.svg --markov eval.json

The same rows give the same file, byte for byte, with the same matplotlib."""

import argparse
import json
import math
import pathlib
import re
import sys

USAGE, BAD_DATA, NO_INPUT, UNAVAILABLE, CANNOT_CREATE = 64, 65, 66, 69, 73  # sysexits.h
COLOURS = ["#1f5fa8", "#c4541b", "#2a8a4a", "#8a3f9e", "#7a6a1f", "#3b8a96"]


class Refusal(Exception):
    def __init__(self, code, line):
        super().__init__(line)
        self.code = code


class Parser(argparse.ArgumentParser):
    def error(self, message):
        raise Refusal(USAGE, f"{message}; see plot_run.py --help")


def parse(arguments):
    parser = Parser(prog="plot_run.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", metavar="RUN", nargs="+", type=pathlib.Path, help="a run directory")
    parser.add_argument("-o", "--output", metavar="FILE", type=pathlib.Path, required=True,
                        help="the picture: .svg or .png")
    parser.add_argument("--markov", metavar="BITS|FILE",
                        help="bits of the best Markov order, or the output of plasmid eval RUN --json")
    parser.add_argument("--smooth", metavar="STEPS", type=int, default=0,
                        help="steps in the moving mean; else a fortieth of the run")
    options = parser.parse_args(arguments)
    if options.output.suffix not in (".svg", ".png"):
        raise Refusal(USAGE, f"{options.output}: a picture's name ends in .svg or .png")
    if options.smooth < 0:
        raise Refusal(USAGE, f"--smooth {options.smooth} is negative")
    return options


def read(path):
    try:
        return path.read_text(encoding="utf-8")
    except OSError as problem:
        raise Refusal(NO_INPUT, f"{path}: {problem.strerror}")
    except UnicodeDecodeError:
        raise Refusal(BAD_DATA, f"{path}: not UTF-8")


class Run:
    """Of one run directory: steps and evaluations as (tokens, bits), and what a token is called."""

    def __init__(self, folder):
        self.name = folder.resolve().name
        job = folder / "job.textproto"
        tokenizer = re.search(r"^\s*tokenizer: (\w+)$", read(job), re.MULTILINE) if job.exists() else None
        self.symbol = {"NUCLEOTIDE": "base", "BYTE": "byte"}.get(tokenizer and tokenizer.group(1), "token")
        self.steps, self.evaluations = [], []
        metrics = folder / "metrics.jsonl"
        for number, line in enumerate(read(metrics).splitlines(keepends=True), 1):
            if line.endswith("\n"):  # else it is being written
                self.add_row(line, f"{metrics}:{number}")
        if not self.steps:
            raise Refusal(BAD_DATA, f"{metrics}: holds no step")

    def add_row(self, line, place):
        try:
            row = json.loads(line)
            rows, loss = (self.steps, row["loss"]) if "loss" in row else (self.evaluations, row["held_out_loss"])
            point = float(row["tokens"]), float(loss) / math.log(2)
        except (ValueError, KeyError, TypeError):
            raise Refusal(BAD_DATA, f"{place}: not a row of metrics")
        if all(map(math.isfinite, point)):
            rows.append(point)


def moving_mean(values, width):
    """Of the `width` values up to each; of fewer at the start."""
    means, total = [], 0.0
    for i, value in enumerate(values):
        total += value - (values[i - width] if i >= width else 0.0)
        means.append(total / min(i + 1, width))
    return means


def read_markov(text):
    """(bits, label) of --markov."""
    try:
        return float(text), "best Markov model"
    except ValueError:
        path = pathlib.Path(text)
    try:
        markov = json.loads(read(path))["markov"]
        return float(markov["bits"][markov["best_order"]]), f"best Markov model (order {markov['best_order']})"
    except (ValueError, KeyError, TypeError, IndexError):
        raise Refusal(BAD_DATA, f"{path}: no Markov models in it; it is to hold what plasmid eval RUN --json prints")


def import_matplotlib():
    try:
        import matplotlib
    except ImportError:
        raise Refusal(UNAVAILABLE, f"{sys.executable} has no matplotlib; Debian's python3 has it by "
                                   "apt-get install python3-matplotlib")
    matplotlib.use("agg")
    # Ids in an SVG come from the salt; text stays text, so that no font's outlines are in the file.
    matplotlib.rcdefaults()
    matplotlib.rcParams.update({"svg.hashsalt": "plasmid", "svg.fonttype": "none", "font.family": "sans-serif",
                                "font.size": 10, "axes.spines.top": False, "axes.spines.right": False})
    import matplotlib.pyplot
    return matplotlib.pyplot


def draw(pyplot, runs, markov, smooth):
    figure, axes = pyplot.subplots(figsize=(8, 4.5), layout="constrained")
    shown, unit = [], 1e6 if max(run.steps[-1][0] for run in runs) >= 1e6 else 1e3
    for index, run in enumerate(runs):
        colour = COLOURS[index % len(COLOURS)]
        width = smooth or max(1, len(run.steps) // 40)
        bits = [value for _, value in run.steps]
        smoothed = moving_mean(bits, width)
        tokens = [count / unit for count, _ in run.steps]
        axes.plot(tokens, bits, color=colour, alpha=0.25, linewidth=0.7)
        name = f"{run.name}: " if len(runs) > 1 else ""
        axes.plot(tokens, smoothed, color=colour, linewidth=1.6,
                  label=f"{name}training" + (f", mean of {width} steps" if width > 1 else ""))
        if run.evaluations:
            axes.plot([count / unit for count, _ in run.evaluations], [value for _, value in run.evaluations],
                      color=colour, marker="o", markersize=5, linestyle="none", label=f"{name}held out")
        shown += smoothed[len(smoothed) // 20:] + [value for _, value in run.evaluations]
    if markov:
        bits, label = markov
        axes.axhline(bits, color="#444444", linewidth=1.2, linestyle="--", label=f"{label}: {bits:.4f}")
        shown.append(bits)
    # The fall of the first steps would flatten all that follows: it may leave at the top.
    margin = 0.08 * (max(shown) - min(shown)) or 0.01
    axes.set_ylim(min(shown) - margin, max(shown) + 2 * margin)
    axes.set_xlim(left=0)
    axes.set_xlabel(f"{'million' if unit == 1e6 else 'thousand'} {runs[0].symbol}s trained on")
    axes.set_ylabel(f"bits per {runs[0].symbol}")
    axes.legend(frameon=False, loc="upper right")
    return figure


def main(arguments):
    options = parse(arguments)
    runs = [Run(folder) for folder in options.runs]
    symbols = sorted({run.symbol for run in runs})
    if len(symbols) > 1:
        raise Refusal(BAD_DATA, f"bits per {' and per '.join(symbols)} do not go into one picture")
    markov = read_markov(options.markov) if options.markov else None
    figure = draw(import_matplotlib(), runs, markov, options.smooth)
    metadata = {"Date": None, "Creator": None} if options.output.suffix == ".svg" else {"Software": None}
    try:
        figure.savefig(options.output, metadata=metadata, dpi=150)
    except OSError as problem:
        raise Refusal(CANNOT_CREATE, f"{options.output}: {problem.strerror}")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except Refusal as refusal:
        print(f"plot_run.py: {refusal}", file=sys.stderr)
        sys.exit(refusal.code)
