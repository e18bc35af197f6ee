"""30 steps of training beside PyTorch's in float64, through the real command, for several layouts of ranks.

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


def job(model, reference, dp, cp, run_directory):
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
        "train": {"steps": reference["steps"], "batch": reference["batch"]},
    })


def worst_error(rows, expected, key):
    return max(abs(row[key] - value) / value for row, value in zip(rows, expected[key], strict=True))


def run_layout(model, dp, cp, folder):
    reference = json.loads((model / "trajectory.json").read_text())
    name = f"{model.name}-dp{dp}-cp{cp}"
    path = folder / f"{name}.textproto"
    path.write_text(job(model, reference, dp, cp, folder / name))
    ranks = dp * cp if dp * cp > 1 else None
    result = plasmid.run(["train", path], ranks)
    if result.returncode != 0:
        print(f"{name}: exit {result.returncode}\n{result.stderr}")
        return False
    rows, expected = plasmid.metrics(folder / name), reference["float64"]
    loss, norm = worst_error(rows, expected, "loss"), worst_error(rows, expected, "grad_norm")
    good = loss <= TOLERANCE
    print(f"{name}: worst relative error of loss {loss:.2e}, of gradient norm {norm:.2e}"
          + ("" if good else f"; loss must be within {TOLERANCE}"))
    return good


def main():
    reference = pathlib.Path(sys.argv[1])
    models = [reference / name for name in ("gpt2_tiny", "llama_tiny")]
    if not all((model / "trajectory.json").exists() for model in models):
        print(f"no reference trajectories at {reference}")
        return SKIPPED
    layouts = [layout for layout in LAYOUTS if plasmid.MPIEXEC or layout == (1, 1)]
    with tempfile.TemporaryDirectory(prefix="plasmid-trajectory-") as folder:
        results = [run_layout(model, dp, cp, pathlib.Path(folder)) for model in models for dp, cp in layouts]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
