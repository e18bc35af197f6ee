"""What tests of a run share: a folder of their own, a small job on the phage's genome, and what the run leaves."""

import pathlib
import tempfile
import unittest

import plasmid_command as plasmid
from plasmid_command import Enum

PHAGE = plasmid.SOURCE / "cluster/data/lambda_phage.fa.gz"


class RunTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="plasmid-run-")
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def job(self, name="run", steps=3, ranks=None, **groups):
        fields = {
            "run_directory": str(self.folder / name),
            "model": {"family": Enum("GPT2"), "layers": 2, "width": 32, "heads": 2},
            "data": {"files": [str(PHAGE)], "tokenizer": Enum("NUCLEOTIDE"), "sequence_length": 200},
            "mesh": {"cp": ranks or 1},
            "optimizer": {"learning_rate": 1e-2},
            "train": {"steps": steps, "batch": 2},
        }
        for group, content in groups.items():
            fields[group] = {**fields.get(group, {}), **content}
        path = self.folder / f"{name}.textproto"
        path.write_text(plasmid.job_text(fields))
        return path

    def train(self, job, ranks=None, code=0, sets=()):
        arguments = ["train", job]
        for assignment in sets:
            arguments += ["--set", assignment]
        result = plasmid.run(arguments, ranks)
        self.assertEqual(result.returncode, code, result.stderr + result.stdout)
        if code:
            self.assertEqual(len(plasmid.our_lines(result.stderr)), 1, result.stderr)
        return result

    def rows(self, name="run"):
        return plasmid.metrics(self.folder / name)

    def losses(self, name="run"):
        rows = self.rows(name)
        self.assertEqual([row["step"] for row in rows], list(range(1, len(rows) + 1)))
        return [(row["loss"], row["grad_norm"], row["tokens"]) for row in rows]

    def checkpoints(self, name="run"):
        return sorted(path.name for path in (self.folder / name / "checkpoints").iterdir())

    def flip(self, path, at=1000):
        content = bytearray(path.read_bytes())
        content[at % len(content)] ^= 16
        path.write_bytes(content)
