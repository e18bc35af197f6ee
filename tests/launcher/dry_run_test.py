"""`plasmid train --dry-run`: the job that would run and what it would take, told by one process that writes nothing."""

import pathlib
import re
import tempfile
import unittest

import plasmid_command as plasmid
from plasmid_command import Enum

PHAGE = plasmid.SOURCE / "cluster/data/lambda_phage.fa.gz"


def comments(text):
    return "\n".join(line for line in text.splitlines() if line.startswith("#"))


def without_comments(text):
    return "\n".join(line for line in text.splitlines() if not line.startswith("#"))


def total_bytes(text):
    return int(re.search(r"^# +in all +(\d+) ", text, re.MULTILINE).group(1))


class DryRun(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="plasmid-dry-")
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def job(self, name="run", **changes):
        fields = {
            "run_directory": str(self.folder / name),
            "model": {"family": Enum("GPT2"), "layers": 2, "width": 64, "heads": 4, "dropout": 0.1},
            "data": {"files": [str(PHAGE)], "tokenizer": Enum("NUCLEOTIDE"), "sequence_length": 1000},
            "optimizer": {"learning_rate": 1e-2},
            "train": {"steps": 2, "batch": 4},
        }
        for group, content in changes.items():
            fields[group] = {**fields.get(group, {}), **content} if isinstance(content, dict) else content
        path = self.folder / f"{name}.textproto"
        path.write_text(plasmid.job_text(fields))
        return path

    def dry(self, job, *arguments, ranks=None):
        result = plasmid.run(["train", job, "--dry-run", *arguments], ranks)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(result.stderr, "")
        return result.stdout

    def test_what_it_prints_is_a_job_that_resolves_to_itself(self):
        first = self.dry(self.job(), "--set", "mesh.cp=2", "--set", "train.micro_batch=2")
        again = self.folder / "again.textproto"
        again.write_text(first)
        self.assertEqual(without_comments(self.dry(again)), without_comments(first))
        self.assertIn("mlp_width: 256", first)
        self.assertFalse((self.folder / "run").exists())

    def test_the_ranks_need_not_be_there(self):
        text = self.dry(self.job(train={"steps": 2, "batch": 96}), "--set", "mesh.dp=16", "--set", "mesh.cp=64")
        self.assertIn("dry run for 1024 ranks", text)
        self.assertIn("# step: 96 x 1000 = 96000 tokens; a rank has 6 x 16\n", text)
        asked = self.dry(self.folder / "run.textproto", "--set", "mesh.dp=16", "--set", "mesh.cp=64", "--ranks", "1024")
        self.assertEqual(without_comments(asked), without_comments(text))
        self.assertEqual(total_bytes(asked), total_bytes(text))

    def test_under_a_launcher_one_process_speaks(self):
        if not plasmid.MPIEXEC:
            self.skipTest("built without MPI")
        job = self.job()
        self.assertEqual(comments(self.dry(job, ranks=2)).count("dry run for 1 rank:"), 1)

    def test_the_bytes_are_those_of_a_run(self):
        layouts = [(None, []), (None, ["attention.storage=BF16"])]
        if plasmid.MPIEXEC:
            layouts += [(2, ["mesh.cp=2"]), (2, ["mesh.dp=2"]), (2, ["mesh.cp=2", "attention.storage=BF16"])]
        for family in ("GPT2", "LLAMA"):
            for ranks, sets in layouts:
                for level in ("NONE", "CORE", "ALL"):
                    with self.subTest(family=family, sets=sets, level=level):
                        name = "-".join([family, level, *sets])
                        job = self.job(name, model={"family": Enum(family)}, train={"recompute": Enum(level)})
                        assignments = [part for assignment in sets for part in ("--set", assignment)]
                        told = total_bytes(self.dry(job, *assignments))
                        result = plasmid.run(["train", job, *assignments], ranks)
                        self.assertEqual(result.returncode, 0, result.stderr)
                        peak = plasmid.metrics(self.folder / name)[-1]["peak_bytes"]
                        self.assertLessEqual(peak, told)
                        self.assertLessEqual(told, 1.1 * peak)

    def test_two_byte_storage_sends_two_thirds_and_keeps_less(self):
        job = self.job()
        wide, narrow = (self.dry(job, "--set", "mesh.cp=4", "--set", f"attention.storage={storage}")
                        for storage in ("F32", "BF16"))
        sent = [re.search(r"sent by a rank in a step: ([0-9.]+) (\w+) of keys", text).groups() for text in (wide, narrow)]
        self.assertEqual(sent[0][1], sent[1][1])
        # Keys and values twice, their gradients once.
        self.assertAlmostEqual(float(sent[1][0]) / float(sent[0][0]), 2 / 3, delta=0.05)
        self.assertLess(total_bytes(narrow), total_bytes(wide))

    def test_a_run_that_is_there_is_told_and_checked(self):
        job = self.job()
        self.assertIn("holds no run", self.dry(job))
        self.assertEqual(plasmid.run(["train", job]).returncode, 0)
        before = sorted((path, path.stat().st_mtime_ns) for path in (self.folder / "run").rglob("*"))
        self.assertIn("has reached step 2 of 2: nothing to do", self.dry(job))
        self.assertIn("go on from " + str(self.folder / "run/checkpoints/step-2"), self.dry(job, "--set", "train.steps=3"))
        self.assertEqual(sorted((path, path.stat().st_mtime_ns) for path in (self.folder / "run").rglob("*")), before)

    def test_what_train_refuses_is_refused_in_the_same_words(self):
        job = self.job()
        self.assertEqual(plasmid.run(["train", job]).returncode, 0)
        (self.folder / "file").write_text("not a folder")
        for sets in (["train.steps=0"], ["model.heads=5"], ["train.batch=3", "train.micro_batch=2"],
                     ["data.files=" + str(self.folder / "none.fa")], ["resume=NEVER"], ["model.width=128"],
                     ["run_directory=" + str(self.folder / "file")], ["model.dropout=1e-9"], ["model.nothing=1"]):
            with self.subTest(sets=sets):
                assignments = [part for assignment in sets for part in ("--set", assignment)]
                real = plasmid.run(["train", job, *assignments])
                dry = plasmid.run(["train", job, "--dry-run", *assignments])
                self.assertNotEqual(real.returncode, 0)
                self.assertEqual((dry.returncode, dry.stderr), (real.returncode, real.stderr))
                self.assertEqual(without_comments(dry.stdout), "")
        weights = self.folder / "run/checkpoints/step-2/model.safetensors"
        content = bytearray(weights.read_bytes())
        content[-1] ^= 1
        weights.write_bytes(content)
        real, dry = (plasmid.run(["train", job, "--set", "train.steps=3", *flag]) for flag in ([], ["--dry-run"]))
        self.assertEqual((dry.returncode, dry.stderr, real.returncode), (65, real.stderr, 65))
        result = plasmid.run(["train", job, "--dry-run", "--ranks", "3"])
        self.assertEqual((result.returncode, len(plasmid.our_lines(result.stderr))), (78, 1), result.stderr)
        self.assertIn("3 ranks", result.stderr)
        self.assertEqual(plasmid.run(["train", job, "--ranks", "3"]).returncode, 64, "--ranks is of --dry-run")


if __name__ == "__main__":
    unittest.main()
