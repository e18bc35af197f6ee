"""Every job of cluster/jobs starts as the comment on its top says: the line with mpirun there, for two steps, with data
of the same form where the package that it names is not installed."""

import gzip
import math
import pathlib
import random
import re
import shlex
import tempfile
import unittest

import plasmid_command as plasmid

STEPS = 2
HELD_OUT = 2000  # tokens: an evaluation shorter than a step
JOBS = sorted((plasmid.SOURCE / "cluster/jobs").iterdir())


def content(name, tokens):
    """What a file of this name would hold: a FASTA record or text; two contexts and a half."""
    draw = random.Random(name)
    if re.search(r"\.(fa|fasta|fna)(\.gz)?$", name):
        lines = ["".join(draw.choices("ACGT", k=70)) for _ in range(5 * tokens // 2 // 70)]
        return "\n".join([">sample"] + lines) + "\n"
    words = ["".join(draw.choices("etaoinshr", k=draw.randint(2, 8))) for _ in range(5 * tokens // 2 // 3)]
    return " ".join(words)[:5 * tokens // 2]


def read(path):
    return (gzip.open if path.suffix == ".gz" else open)(path, "rt").read()


def write(path, text):
    with (gzip.open if path.suffix == ".gz" else open)(path, "wt") as file:
        file.write(text)
    return path


@unittest.skipUnless(plasmid.MPIEXEC, "built without MPI")
class JobsTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="plasmid-jobs-")
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def start_as_documented(self, job, text, sets):
        """Runs the comment's line from the repository, where a job's paths start, with fields replaced."""
        comments = re.findall(r"^#\s+(mpirun .*)$", text, re.MULTILINE)
        self.assertEqual(len(comments), 1, f"{job}: one line tells how to start it")
        launcher, option, ranks, program, *arguments = shlex.split(comments[0])
        self.assertEqual([launcher, option, program], ["mpirun", "-n", plasmid.PROGRAM.name])
        self.assertEqual(arguments, ["train", str(job.relative_to(plasmid.SOURCE))])
        for assignment in sets:
            arguments += ["--set", assignment]
        return plasmid.run(arguments, int(ranks), cwd=plasmid.SOURCE)

    def data_of(self, text, context):
        """The job's first file where it is, else one of the same name; and of how many tokens, about."""
        path = plasmid.SOURCE / re.search(r'^\s*files: "(.*)"$', text, re.MULTILINE).group(1)
        if not path.exists():
            path = write(self.folder / path.name, content(path.name, context))
        return path, len(read(path))

    def test_each_job_trains(self):
        self.assertIn("lambda_phage.textproto", [job.name for job in JOBS])
        for job in JOBS:
            with self.subTest(job=job.name):
                text = job.read_text()
                context = int(re.search(r"sequence_length: (\d+)", text).group(1))
                path, tokens = self.data_of(text, context)
                run = self.folder / job.stem
                result = self.start_as_documented(job, text, [
                    f"run_directory={run}", f"train.steps={STEPS}", f"data.held_out_fraction={HELD_OUT / tokens:.6f}",
                    f"data.files={path}"])
                self.assertEqual(result.returncode, 0, result.stderr)
                self.assertRegex(result.stdout, rf"\b\d+ windows of {context}\b")
                rows = plasmid.metrics(run)
                losses = [row["loss"] for row in rows if "loss" in row]
                self.assertEqual(len(losses), STEPS)
                held_out = [row["held_out_loss"] for row in rows if "held_out_loss" in row]
                self.assertEqual(len(held_out), 1)
                for loss in losses + held_out:
                    self.assertTrue(math.isfinite(loss) and loss > 0, loss)
                self.assertEqual(rows[STEPS - 1]["tokens"], STEPS * context)


if __name__ == "__main__":
    unittest.main()
