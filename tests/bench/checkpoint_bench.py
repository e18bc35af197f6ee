"""Seconds of a checkpoint beside `dd conv=fsync` of the same bytes to the same disk, in turn.

checkpoint_bench.py [--pairs 7] [--ranks 1] [--folder FOLDER]     (PLASMID and MPIEXEC as tests/launcher/plasmid_command.py)

Each turn resumes a run for one more step, whose checkpoint it times (as the program reports it: from the first check of
free space to the removal of the one before), and then has dd write zeros over those of the turn before. The bar is
1.3."""

import argparse
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "launcher"))
import plasmid_command as plasmid  # noqa: E402
from plasmid_command import Enum  # noqa: E402

BAR = 1.3


def job(folder, step, ranks):
    path = folder / "run.textproto"
    path.write_text(plasmid.job_text({
        "run_directory": str(folder / "run"),
        "model": {"family": Enum("LLAMA"), "layers": 8, "width": 512, "heads": 8},
        "data": {"files": [str(plasmid.SOURCE / "cluster/data/lambda_phage.fa.gz")], "tokenizer": Enum("NUCLEOTIDE"),
                 "sequence_length": 32},
        "mesh": {"cp": ranks},
        "optimizer": {"learning_rate": 1e-3},
        "train": {"steps": step, "batch": 1},
        "checkpoint": {"keep": 1},
    }))
    return path


def checkpoint_seconds(folder, step, ranks):
    result = plasmid.run(["train", job(folder, step, ranks)], ranks if ranks > 1 else None)
    assert result.returncode == 0, result.stderr
    line = next(line for line in result.stdout.splitlines() if line.startswith("checkpoint: "))
    saved = folder / f"run/checkpoints/step-{step}"
    return float(line.rsplit(" in ", 1)[1].split()[0]), sum(path.stat().st_size for path in saved.iterdir())


def dd_seconds(folder, size):
    target = folder / "zeros"
    start = time.perf_counter()
    subprocess.run(["dd", "if=/dev/zero", f"of={target}", "bs=1M", f"count={size}", "iflag=count_bytes",
                    "conv=fsync", "status=none"], check=True)
    return time.perf_counter() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--ranks", type=int, default=1)
    parser.add_argument("--folder", help="on the disk to measure; else the system's for temporary files")
    options = parser.parse_args()
    ratios = []
    with tempfile.TemporaryDirectory(prefix="plasmid-bench-", dir=options.folder) as name:
        folder = pathlib.Path(name)
        dd_seconds(folder, checkpoint_seconds(folder, 1, options.ranks)[1])
        for pair in range(options.pairs):
            ours, size = checkpoint_seconds(folder, 2 + pair, options.ranks)
            theirs = dd_seconds(folder, size)
            ratios.append(ours / theirs)
            print(f"{size / 1e6:.1f} MB: checkpoint {ours:.3f} s ({size / 1e6 / ours:.0f} MB/s), "
                  f"dd {theirs:.3f} s ({size / 1e6 / theirs:.0f} MB/s), ratio {ratios[-1]:.2f}", flush=True)
    middle = statistics.median(ratios)
    print(f"{options.ranks} rank(s): median ratio {middle:.2f}, {min(ratios):.2f} to {max(ratios):.2f}; bar {BAR}")
    return 0 if min(ratios) <= BAR else 1


if __name__ == "__main__":
    sys.exit(main())
