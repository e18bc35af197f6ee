"""Held-out data through the built command: the split, evaluation while training, `plasmid eval`."""

import collections
import gzip
import json
import math
import pathlib
import signal
import tempfile
import unittest

import plasmid_command as plasmid
from plasmid_command import Enum

PHAGE = plasmid.SOURCE / "cluster/data/lambda_phage.fa.gz"
RANKS = [None, 2] if plasmid.MPIEXEC else [None]
OTHER_LAYOUT = 1e-6  # relative, of a loss of the same weights: another order of summation in float32
ROW = ["step", "tokens", "held_out_loss", "held_out_bits", "held_out_labels", "seconds"]


def markov_bits(training, held_out, order):
    """P(s | c) = (n(c, s) + 1) / (n(c) + 4), and N, which is not there, by (n(N) + 2) / (n + 4)."""
    pairs, contexts = collections.Counter(), collections.Counter()
    for at in range(1, len(training)):
        if at >= order:
            pairs[training[at - order:at + 1]] += 1
            contexts[training[at - order:at]] += 1
    assert order <= 1, "the first tokens' shorter contexts are not counted here"
    no_gap = (len(training) - 1 + 2) / (len(training) - 1 + 4)
    bits = [-math.log2(no_gap * (pairs[held_out[at - order:at + 1]] + 1) / (contexts[held_out[at - order:at]] + 4))
            for at in range(1, len(held_out))]
    return sum(bits) / len(bits)


class EvaluationTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="plasmid-evaluation-")
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def job(self, name="run", ranks=None, **groups):
        fields = {
            "run_directory": str(self.folder / name),
            "model": {"family": Enum("GPT2"), "layers": 2, "width": 32, "heads": 2},
            "data": {"files": [str(PHAGE)], "tokenizer": Enum("NUCLEOTIDE"), "sequence_length": 300,
                     "held_out_fraction": 0.1},
            "mesh": {"cp": ranks or 1},
            "optimizer": {"learning_rate": 1e-2},
            "train": {"steps": 5, "batch": 2, "evaluate_every": 2},
        }
        for group, content in groups.items():
            fields[group] = {**fields.get(group, {}), **content}
        path = self.folder / f"{name}.textproto"
        path.write_text(plasmid.job_text(fields))
        return path

    def run_plasmid(self, arguments, ranks=None, code=0):
        result = plasmid.run(arguments, ranks)
        self.assertEqual(result.returncode, code, result.stderr + result.stdout)
        if code:
            self.assertEqual(len(plasmid.our_lines(result.stderr)), 1, result.stderr)
        return result

    def train(self, job, ranks=None, code=0, sets=()):
        return self.run_plasmid(["train", job] + [f"--set={text}" for text in sets], ranks, code)

    def eval(self, *arguments, name="run", ranks=None):
        return json.loads(self.run_plasmid(["eval", self.folder / name, "--json", *arguments], ranks).stdout)

    def rows(self, name="run"):
        """Without what a clock or the machine decides."""
        return [{key: row[key] for key in row if key not in ("seconds", "step_seconds", "tokens_per_second",
                                                             "resident_bytes", "peak_bytes")}
                for row in plasmid.metrics(self.folder / name)]

    def evaluations(self, name="run"):
        return [row for row in self.rows(name) if "held_out_loss" in row]

    def steps(self, name="run"):
        return [row for row in self.rows(name) if "loss" in row]


class WhileTraining(EvaluationTest):
    def test_rows_and_lines_at_every_second_step_and_at_the_end(self):
        for ranks in RANKS:
            with self.subTest(ranks=ranks):
                name = f"run{ranks}"
                result = self.train(self.job(name, ranks), ranks)
                rows = plasmid.metrics(self.folder / name)
                self.assertEqual([row["step"] for row in rows], [1, 2, 2, 3, 4, 4, 5, 5])
                evaluations = [row for row in rows if "held_out_loss" in row]
                self.assertEqual([row["step"] for row in evaluations], [2, 4, 5])
                for row in evaluations:
                    self.assertEqual(list(row), ROW)
                    self.assertEqual(row["tokens"], row["step"] * 600)
                    self.assertEqual(row["held_out_labels"], 4850 - 1)
                    self.assertAlmostEqual(row["held_out_bits"], row["held_out_loss"] / math.log(2), places=12)
                    self.assertIn(f"step {row['step']}/5  held out: loss {row['held_out_loss']:.4f} nats  "
                                  f"{row['held_out_bits']:.4f} bits/base  over 4849 bases", result.stdout)

    def test_it_changes_no_bit_of_training(self):
        self.train(self.job("with"))
        self.train(self.job("without", train={"evaluate_every": 0}))
        self.assertEqual(self.steps("with"), self.steps("without"))
        self.assertEqual([row["step"] for row in self.evaluations("without")], [5])
        files = [self.folder / name / "checkpoints/step-5" for name in ("with", "without")]
        for name in ("model.safetensors", "optimizer-00000-of-00001.safetensors"):
            self.assertEqual(*[(file / name).read_bytes() for file in files])

    def test_held_out_tokens_are_not_trained_on(self):
        """The same training as on a file that ends where the held-out part begins."""
        text = bytes((i * i // 7) % 251 for i in range(3000))
        for name, content in (("whole", text), ("head", text[:2700]), ("tail", text[2700:])):
            (self.folder / f"{name}.txt").write_bytes(content)
        data = {"tokenizer": Enum("BYTE"), "sequence_length": 64}
        self.train(self.job("fraction", data={**data, "files": [str(self.folder / "whole.txt")]}))
        self.train(self.job("files", data={**data, "files": [str(self.folder / "head.txt")], "held_out_fraction": 0.0,
                                           "held_out_files": [str(self.folder / "tail.txt")]}))
        self.assertEqual(self.rows("fraction"), self.rows("files"))

    def test_a_resumed_run_evaluates_at_the_same_steps(self):
        self.train(self.job("whole"))
        self.train(self.job("parts", checkpoint={"every": 3}), None, 0, ["train.steps=3"])
        with open(self.folder / "parts/metrics.jsonl", "a") as rows:  # of a part that got further and is done again
            rows.write('{"step":4,"tokens":1,"loss":99}\n{"step":4,"tokens":1,"held_out_loss":99}\n')
        self.train(self.job("parts"))
        self.assertEqual([row["step"] for row in self.evaluations("parts")], [2, 3, 4, 5], "3: the end of that part")
        self.assertEqual([row for row in self.rows("parts") if row["step"] != 3 or "loss" in row],
                         self.rows("whole"))

    def test_an_evaluation_that_did_not_come_to_its_end_is_made_up_for(self):
        self.train(self.job("whole", train={"steps": 4}))
        self.train(self.job("parts", train={"steps": 2}))
        metrics = self.folder / "parts/metrics.jsonl"
        metrics.write_text("".join(line + "\n" for line in metrics.read_text().splitlines()
                                   if "held_out_loss" not in line))
        self.train(self.job("parts", train={"steps": 4}))
        self.assertEqual(self.rows("parts"), self.rows("whole"))

    def test_a_signal_ends_a_long_evaluation(self):
        job = self.job(data={"held_out_fraction": 0.5, "sequence_length": 24}, model={"width": 128, "layers": 8},
                       train={"steps": 10**6, "evaluate_every": 1})
        process = plasmid.start(["train", job])
        plasmid.wait_for_step(process, 1)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=plasmid.TIMEOUT)
        self.assertEqual(process.returncode, 75)
        steps = [row["step"] for row in self.steps()]
        self.assertIn(f"after step {steps[-1]} of", plasmid.exit_record(self.folder / "run")["reason"])
        self.assertTrue((self.folder / f"run/checkpoints/step-{steps[-1]}/model.safetensors").exists())


class Refusals(EvaluationTest):
    def refused(self, code, line, sets=(), **groups):
        for ranks in RANKS:
            with self.subTest(ranks=ranks):
                result = self.train(self.job(ranks=ranks, **groups), ranks, code, sets)
                self.assertEqual(plasmid.our_lines(result.stderr), [f"plasmid: {line}"])
                self.assertFalse((self.folder / "run").exists())

    def test_a_part_that_is_too_short(self):
        self.refused(78, "data.held_out_fraction: 1e-05 x 48502 tokens = 0 held out and 48502 to train on; each part "
                         "takes at least 2", ["data.held_out_fraction=1e-5"])

    def test_data_without_a_label(self):
        soft, single = self.folder / "soft.fa", self.folder / "single.fa"
        soft.write_text(">masked\n" + "acgt" * 100 + "\n")
        single.write_text("".join(f">{i}\nA\n" for i in range(50)))
        why = "is one to predict: each is the first of its record, or lower case under data.lower_case MASK"
        nothing_held_out = ["data.held_out_fraction=0", "train.evaluate_every=0", "data.lower_case=MASK"]
        self.refused(65, f"data.files: none of 400 tokens {why}", nothing_held_out + [f"data.files={soft}"])
        self.refused(65, f"data.files: none of 50 tokens {why}", nothing_held_out + [f"data.files={single}"])
        self.refused(65, f"data.held_out_files: none of 400 tokens {why}",
                     ["data.held_out_fraction=0", f"data.held_out_files={soft}", "data.lower_case=MASK"])
        half = self.folder / "half.fa"
        half.write_text(">half\n" + "ACGT" * 100 + "acgt" * 100 + "\n")
        self.refused(65, f"data.held_out_fraction: none of 400 tokens {why}",
                     ["data.held_out_fraction=0.5", f"data.files={half}", "data.lower_case=MASK"])

    def test_eval_refuses_in_one_line(self):
        job = self.job()
        self.train(job, None, 0, ["data.held_out_fraction=0", "train.evaluate_every=0", "checkpoint.keep=5"])
        run, nowhere = self.folder / "run", self.folder / "nowhere"
        empty = self.folder / "empty"
        empty.mkdir()
        for code, arguments, line in (
                (64, ["eval"], "RUN is required; see plasmid eval --help"),
                (66, ["eval", nowhere], f"{nowhere}: no run directory"),
                (66, ["eval", empty], f"{empty}: no run directory"),
                (66, ["eval", run, "--step", "4"], f"{run}/checkpoints/step-4: no such checkpoint"),
                (66, ["eval", run, "--files", nowhere], f"{nowhere}: cannot be read: No such file or directory"),
                (66, ["eval", run, "--files", nowhere, "--no-markov"], f"--files: data.files: {nowhere}: no such file"),
                (78, ["eval", run], f"{run}: its job holds nothing out (data.held_out_fraction, data.held_out_files); "
                                    "name the data with --files"),
                (78, ["eval", run, "--set", "data.held_out_fraction=0.1"],
                 f"data.files: 43652 tokens to train on, but {run}/checkpoints/step-5 was trained on 48502; --files with "
                 "--no-markov evaluates any data"),
                (78, ["eval", run, "--files", PHAGE, "--set", "model.width=64"],
                 f"--set: model.width: 64 contradicts 32 in {run}/checkpoints/step-5/config.json"),
        ):
            for ranks in RANKS:
                with self.subTest(line=line, ranks=ranks):
                    result = self.run_plasmid(arguments, ranks, code)
                    self.assertEqual(plasmid.our_lines(result.stderr), [f"plasmid: {line}"])
                    self.assertEqual(result.stdout, "")
        other = self.folder / "other.fa"  # as long as the phage, with one base changed
        lines = gzip.decompress(PHAGE.read_bytes()).decode().splitlines(keepends=True)
        lines[1] = ("A" if lines[1][0] != "A" else "C") + lines[1][1:]
        other.write_text("".join(lines))
        for ranks in RANKS:
            result = self.run_plasmid(["eval", run, "--files", PHAGE, "--set", f"data.files={other}"], ranks, 78)
            self.assertEqual(plasmid.our_lines(result.stderr),
                             [f"plasmid: data.files: not the content that {run}/checkpoints/step-5 was trained on; "
                              "--files with --no-markov evaluates any data"])
        weights = run / "checkpoints/step-5/model.safetensors"
        content = bytearray(weights.read_bytes())
        content[-1] ^= 1
        weights.write_bytes(content)
        for ranks in RANKS:
            for step in ([], ["--step", "5"]):
                result = self.run_plasmid(["eval", run, "--files", PHAGE, *step], ranks, 65)
                self.assertIn("model.safetensors", result.stderr)


class Eval(EvaluationTest):
    def test_it_tells_what_training_told_on_any_layout(self):
        self.train(self.job(checkpoint={"every": 2, "keep": 3}))
        rows = {row["step"]: row for row in self.evaluations()}
        result = self.eval()
        for key in ("step", "tokens", "held_out_loss", "held_out_bits", "held_out_labels"):
            self.assertEqual(result[key], rows[5][key])
        self.assertEqual(self.eval("--step", "2")["held_out_loss"], rows[2]["held_out_loss"])
        self.assertEqual((result["windows"], result["symbol"]), (17, "base"))
        if not plasmid.MPIEXEC:
            self.skipTest("built without MPI")
        for ranks, sets, mesh in ((2, [], (1, 2)), (2, ["mesh.dp=2"], (2, 1)), (3, ["mesh.dp=3"], (3, 1)),
                                  (4, ["mesh.dp=2", "mesh.cp=2", "train.micro_batch=3"], (2, 2))):
            other = self.eval(*[f"--set={text}" for text in sets], ranks=ranks)
            self.assertEqual((other["mesh"]["dp"], other["mesh"]["cp"]), mesh)
            self.assertEqual(other["held_out_labels"], 4849)
            self.assertAlmostEqual(other["held_out_loss"], rows[5]["held_out_loss"],
                                   delta=OTHER_LAYOUT * rows[5]["held_out_loss"])

    def test_files_are_evaluated_whole(self):
        self.train(self.job())
        result = self.eval("--files", PHAGE, PHAGE)
        self.assertEqual(result["held_out_labels"], 2 * 48501)
        self.assertEqual(len(result["markov"]["bits"]), 13)
        alone = self.eval("--files", PHAGE, "--no-markov", "--set", f"data.files={self.folder / 'gone.fa'}")
        self.assertNotIn("markov", alone)

    def test_markov_models_stand_beside_it(self):
        lines = gzip.open(PHAGE, "rt").read().split("\n")[1:]
        genome = "".join(lines).upper()
        self.assertEqual(len(genome), 48502)
        for ranks in RANKS:
            name = f"run{ranks}"
            said = self.train(self.job(name, ranks), ranks).stdout.splitlines()[-1]
            markov = self.eval(name=name, ranks=ranks)["markov"]
            for order in (0, 1):
                self.assertAlmostEqual(markov["bits"][order], markov_bits(genome[:43652], genome[43652:], order), places=10)
            best = min(range(13), key=lambda order: markov["bits"][order])
            self.assertEqual(markov["best_order"], best)
            line = f"Markov order {best}: loss {markov['bits'][best] * math.log(2):.4f} nats  {markov['bits'][best]:.4f} " \
                "bits/base  (the best of orders 0 to 12, counted on the training data)"
            self.assertEqual(said, line)
            table = self.run_plasmid(["eval", self.folder / name], ranks).stdout
            self.assertIn(line, table)
            self.assertIn("bits/base by order, from 0: " + " ".join(f"{value:.4f}" for value in markov["bits"]), table)

    def test_a_damaged_checkpoint_is_passed_over(self):
        self.train(self.job(checkpoint={"every": 2, "keep": 3}))
        (self.folder / "run/checkpoints/step-5/model.safetensors").write_bytes(b"nothing")
        result = self.run_plasmid(["eval", self.folder / "run"])
        self.assertIn("damaged", result.stdout)
        self.assertIn("step-4, trained on 2400 tokens", result.stdout)

    def test_beside_a_run_that_goes_on_and_removes_checkpoints(self):
        job = self.job(train={"steps": 10**6, "evaluate_every": 0}, checkpoint={"every": 1, "keep": 1})
        process = plasmid.start(["train", job])
        next(line for line in process.stdout if line.startswith("checkpoint: "))
        steps = [self.eval()["step"] for _ in range(3)]
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=plasmid.TIMEOUT)
        self.assertEqual(process.returncode, 75)
        self.assertEqual(steps, sorted(steps))
        self.assertGreaterEqual(self.eval()["step"], steps[-1])

    def test_it_leaves_the_run_as_it_is(self):
        self.train(self.job())
        run = self.folder / "run"
        before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
        self.run_plasmid(["eval", run])
        self.assertEqual({path: path.stat().st_mtime_ns for path in run.rglob("*")}, before)


if __name__ == "__main__":
    unittest.main(verbosity=2)
