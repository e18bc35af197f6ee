"""30 steps of training beside PyTorch's in float64, through the real command, for several layouts of ranks, and through
a checkpoint at step 15, on the same layout and on another.

Usage: trajectory_test.py REFERENCE_FOLDER. Ends with 77 (skipped) where the folder is absent."""

import json
import pathlib
import sys
import tempfile

import plasmid_command as plasmid
from plasmid_command import Enum

SKIPPED = 77
TOLERANCE = 1e-5  # relative, of each step's loss: what the reference asks of float32 training
LAYOUTS = [(1, 1), (1, 2), (1, 4), (2, 2), (1, 3)]  # dp, cp


STOPPED = 15  # the step whose checkpoint a second layout goes on from
RESUMED = [((1, 1), (1, 1)), ((1, 2), (1, 2)), ((1, 2), (1, 1)), ((1, 1), (2, 1)), ((1, 3), (1, 2))]


def job(model, reference, dp, cp, run_directory, steps):
    optimizer = reference["optimizer"]
    return plasmid.job_text({
        "run_directory": str(run_directory),
        "model": {"from": str(model / "model")},
        "data": {"files": [str(model / "tokens.bin")], "tokenizer": Enum("BYTE"), "order": Enum("SEQUENTIAL"),
                 "sequence_length": reference["window"]},
        "mesh": {"dp": dp, "cp": cp},
        "optimizer": {"learning_rate": optimizer["lr"], "beta1": optimizer["beta1"], "beta2": optimizer["beta2"],
                      "epsilon": optimizer["eps"], "weight_decay": optimizer["weight_decay"],
                      "clip_norm": optimizer["clip_norm"], "schedule": Enum("CONSTANT")},
        "train": {"steps": steps, "batch": reference["batch"]},
    })


def worst_error(rows, expected, key):
    return max(abs(row[key] - value) / value for row, value in zip(rows, expected[key], strict=True))


def train(model, layout, folder, name, steps):
    """Runs, or goes on with, a run of that name; its rows, or None."""
    reference = json.loads((model / "trajectory.json").read_text())
    dp, cp = layout
    path = folder / f"{name}.textproto"
    path.write_text(job(model, reference, dp, cp, folder / name, steps))
    result = plasmid.run(["train", path], dp * cp if dp * cp > 1 else None)
    if result.returncode != 0:
        print(f"{name}: exit {result.returncode}\n{result.stderr}")
        return None
    return plasmid.metrics(folder / name)


def compare(name, rows, expected):
    loss, norm = worst_error(rows, expected, "loss"), worst_error(rows, expected, "grad_norm")
    good = loss <= TOLERANCE
    print(f"{name}: worst relative error of loss {loss:.2e}, of gradient norm {norm:.2e}"
          + ("" if good else f"; loss must be within {TOLERANCE}"))
    return good


def run_model(model, folder):
    reference = json.loads((model / "trajectory.json").read_text())
    steps, expected = reference["steps"], reference["float64"]
    whole, good = {}, True
    for layout in LAYOUTS if plasmid.MPIEXEC else [(1, 1)]:
        name = f"{model.name}-dp{layout[0]}-cp{layout[1]}"
        whole[layout] = train(model, layout, folder, name, steps)
        good = whole[layout] is not None and compare(name, whole[layout], expected) and good
    for first, second in RESUMED if plasmid.MPIEXEC else RESUMED[:1]:
        name = f"{model.name}-dp{first[0]}-cp{first[1]}-then-dp{second[0]}-cp{second[1]}"
        rows = train(model, first, folder, name, STOPPED) and train(model, second, folder, name, steps)
        good = rows is not None and compare(name, rows, expected) and good
        if first == second and rows and whole[first]:
            same = [(r["loss"], r["grad_norm"]) for r in rows] == [(r["loss"], r["grad_norm"]) for r in whole[first]]
            print(f"{name}: {'equal' if same else 'NOT EQUAL'} to the run that never stopped")
            good = good and same
    return good


def main():
    reference = pathlib.Path(sys.argv[1])
    models = [reference / name for name in ("gpt2_tiny", "llama_tiny")]
    if not all((model / "trajectory.json").exists() for model in models):
        print(f"no reference trajectories at {reference}")
        return SKIPPED
    with tempfile.TemporaryDirectory(prefix="plasmid-trajectory-") as folder:
        results = [run_model(model, pathlib.Path(folder)) for model in models]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
