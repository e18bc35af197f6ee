"""The `plasmid` command as users and scripts see it: exit codes, one line for each mistake, the run directory."""

import json
import math
import pathlib
import signal
import tempfile
import unittest

import plasmid_command as plasmid
from plasmid_command import Enum

KEYS = ["step", "tokens", "loss", "grad_norm", "learning_rate", "step_seconds", "tokens_per_second", "peak_bytes",
        "resident_bytes"]
PHAGE = plasmid.SOURCE / "cluster/data/lambda_phage.fa.gz"
RANKS = [None, 2] if plasmid.MPIEXEC else [None]


class CommandTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="plasmid-command-")
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def job(self, name="run", **changes):
        """Writes a small job on the phage's genome; changes: {"train": {"steps": 5}, ...}."""
        fields = {
            "run_directory": str(self.folder / name),
            "model": {"family": Enum("GPT2"), "layers": 2, "width": 32, "heads": 2},
            "data": {"files": [str(PHAGE)], "tokenizer": Enum("NUCLEOTIDE"), "sequence_length": 200},
            "optimizer": {"learning_rate": 1e-2},
            "train": {"steps": 3, "batch": 2},
        }
        for group, content in changes.items():
            fields[group] = {**fields.get(group, {}), **content} if isinstance(content, dict) else content
        path = self.folder / f"{name}.textproto"
        path.write_text(plasmid.job_text(fields))
        return path

    def train(self, path, ranks=None, sets=()):
        arguments = ["train", path]
        for assignment in sets:
            arguments += ["--set", assignment]
        return plasmid.run(arguments, ranks)


class Usage(CommandTest):
    def test_help_shows_an_example_everywhere(self):
        for arguments in (["--help"], ["train", "--help"], ["doctor", "--help"]):
            result = plasmid.run(arguments)
            self.assertEqual(result.returncode, 0)
            self.assertIn("Example: mpirun -n 2 plasmid", result.stdout)

    def test_a_command_that_is_not_there_is_named(self):
        result = plasmid.run(["trian", "--sett"])
        self.assertEqual((result.returncode, result.stderr), (64, "plasmid: no command trian; see plasmid --help\n"))

    def test_version(self):
        result = plasmid.run(["--version"])
        self.assertEqual(result.returncode, 0)
        self.assertRegex(result.stdout, r"^plasmid \d+\.\d+\.\d+\n$")

    def test_a_wrong_command_line_is_64_and_one_line(self):
        job = self.job()
        for arguments in ([], ["trian"], ["train"], ["train", job, "--sett", "a=b"], ["train", job, "another"],
                          ["train", job, "--set"], ["train", job, "--set", "train.steps"]):
            for ranks in RANKS:
                with self.subTest(arguments=arguments, ranks=ranks):
                    result = plasmid.run(arguments, ranks)
                    self.assertEqual(result.returncode, 64, result.stderr)
                    self.assertEqual(len(plasmid.our_lines(result.stderr)), 1, result.stderr)
        self.assertFalse((self.folder / "run").exists())

    def test_doctor_reports_every_rank(self):
        for ranks in RANKS:
            result = plasmid.run(["doctor"], ranks)
            self.assertEqual(result.returncode, 0, result.stderr)
            self.assertEqual(result.stdout.count("1 thread(s)"), ranks or 1, result.stdout)


class WrongJobs(CommandTest):
    def refused(self, path, code, line, sets=()):
        for ranks in RANKS:
            with self.subTest(line=line, ranks=ranks):
                result = self.train(path, ranks, sets)
                self.assertEqual(result.returncode, code, result.stderr)
                self.assertEqual(plasmid.our_lines(result.stderr), [f"plasmid: {line}"], result.stderr)
                self.assertEqual(result.stdout, "")
                self.assertFalse((self.folder / "run").exists(), "a refused job leaves no run directory")

    def test_a_missing_job(self):
        missing = self.folder / "missing.textproto"
        self.refused(missing, 66, f"{missing}: cannot read the job: No such file or directory")

    def test_an_unknown_field(self):
        path = self.folder / "a.textproto"
        path.write_text("model {\n  layer: 3\n}\n")
        self.refused(path, 78, f"{path}:2:3: model.layer: no such field; did you mean model.layers?")

    def test_a_mesh_that_is_not_the_ranks(self):
        for ranks in RANKS:
            result = self.train(self.job(mesh={"dp": 3, "cp": 2}), ranks)
            self.assertEqual(result.returncode, 78)
            started = "2 ranks were started" if ranks else "1 rank was started"
            self.assertEqual(len(plasmid.our_lines(result.stderr)), 1, result.stderr)
            self.assertIn(f"mesh: dp 3 x cp 2 x tp 1 = 6, but {started}", result.stderr)

    def test_missing_and_empty_data(self):
        empty = self.folder / "empty.txt"
        empty.touch()
        missing = self.folder / "missing.fa"
        for ranks in RANKS:
            for path, code in ((empty, 65), (missing, 66)):
                result = self.train(self.job(mesh={"cp": ranks or 1}), ranks, [f"data.files={path}"])
                self.assertEqual(result.returncode, code, result.stderr)
                self.assertEqual(len(plasmid.our_lines(result.stderr)), 1, result.stderr)
                self.assertIn(str(path), result.stderr)
                self.assertFalse((self.folder / "run").exists())

    def test_one_token_is_nothing_to_predict(self):
        single = self.folder / "one.txt"
        single.write_text("A")
        result = self.train(self.job(), None, [f"data.files={single}", "data.tokenizer=BYTE"])
        self.assertEqual(result.returncode, 65)
        self.assertEqual(result.stderr, "plasmid: data.files: 1 token in all, nothing to predict\n")

    def test_a_model_that_the_machine_does_not_hold(self):
        result = self.train(self.job(model={"width": 200000, "layers": 100}))
        self.assertEqual(result.returncode, 71)
        self.assertRegex(result.stderr, r"^plasmid: memory: .* a rank, but it has .*\n$")
        self.assertFalse((self.folder / "run").exists())

    def test_a_run_directory_that_cannot_be_made(self):
        blocker = self.folder / "file"
        blocker.write_text("")
        for place in (blocker, blocker / "below"):
            result = self.train(self.job(), None, [f"run_directory={place}"])
            self.assertEqual(result.returncode, 73, result.stderr)
            self.assertEqual(len(plasmid.our_lines(result.stderr)), 1, result.stderr)


class Training(CommandTest):
    def losses(self, name, ranks=None, sets=()):
        result = self.train(self.job(name), ranks, sets)
        self.assertEqual(result.returncode, 0, result.stderr)
        return [row["loss"] for row in plasmid.metrics(self.folder / name)]

    def test_the_run_directory_holds_what_scripts_read(self):
        result = self.train(self.job())
        self.assertEqual(result.returncode, 0, result.stderr)
        run = self.folder / "run"
        self.assertEqual(sorted(p.name for p in run.iterdir()),
                         [".lock", "checkpoints", "exit.json", "job.textproto", "log.txt", "metrics.jsonl"])
        rows = plasmid.metrics(run)
        self.assertEqual([row["step"] for row in rows], [1, 2, 3])
        self.assertEqual([row["tokens"] for row in rows], [400, 800, 1200])
        for row in rows:
            self.assertEqual(list(row), KEYS)
            self.assertGreater(row["peak_bytes"], 0)
            self.assertGreater(row["resident_bytes"], row["peak_bytes"] // 2)
        self.assertAlmostEqual(rows[0]["loss"], math.log(5), delta=0.2)
        self.assertLess(rows[2]["loss"], rows[0]["loss"])
        self.assertEqual(plasmid.exit_record(run), {"code": 0, "reason": "finished after step 3 of 3", "retry": False})
        self.assertEqual([p.name for p in (run / "checkpoints").iterdir()], ["step-3"])
        weights = run / "checkpoints/step-3"
        self.assertEqual(sorted(p.name for p in weights.iterdir()),
                         ["config.json", "manifest.json", "manifest.xxh128", "model.safetensors",
                          "optimizer-00000-of-00001.safetensors"])
        config = json.loads((weights / "config.json").read_text())
        self.assertEqual((config["model_type"], config["n_layer"], config["n_embd"]), ("gpt2", 2, 32))
        header = plasmid.safetensors_header(weights / "model.safetensors")
        self.assertEqual(header["transformer.wte.weight"]["shape"], [5, 32])

    def test_ranks_do_not_change_the_losses(self):
        alone = self.losses("alone")
        self.assertEqual(alone, self.losses("again"), "the same run gives the same bits")
        if not plasmid.MPIEXEC:
            self.skipTest("built without MPI")
        for axis in ("cp", "dp"):
            for one, two in zip(alone, self.losses(axis, 2, [f"mesh.{axis}=2"]), strict=True):
                self.assertAlmostEqual(two, one, delta=1e-5 * one)

    def test_recomputing_changes_memory_but_no_bit(self):
        kept = self.losses("kept")
        peaks = [plasmid.metrics(self.folder / "kept")[-1]["peak_bytes"]]
        for level in ("CORE", "ALL"):
            self.assertEqual(self.losses(level, None, [f"train.recompute={level}"]), kept)
            peaks.append(plasmid.metrics(self.folder / level)[-1]["peak_bytes"])
        self.assertEqual(peaks, sorted(peaks, reverse=True))
        self.assertLess(peaks[2], peaks[0])

    def test_a_window_of_attention_changes_the_losses_but_not_between_ranks(self):
        narrow = self.losses("narrow", None, ["attention.window_left=5"])
        self.assertNotEqual(narrow, self.losses("wide"))
        if plasmid.MPIEXEC:
            for one, two in zip(narrow, self.losses("ranks", 2, ["attention.window_left=5", "mesh.cp=2"]), strict=True):
                self.assertAlmostEqual(two, one, delta=1e-5 * one)

    def test_two_byte_storage_rounds_the_losses_alike_on_every_mesh_and_with_recomputing(self):
        wide, narrow = self.losses("wide"), self.losses("narrow", None, ["attention.storage=BF16"])
        self.assertNotEqual(narrow, wide)
        for one, two in zip(wide, narrow, strict=True):
            self.assertAlmostEqual(two, one, delta=2**-9 * one)  # of a weight's rounding
        for level in ("CORE", "ALL"):
            sets = ["attention.storage=BF16", f"train.recompute={level}"]
            self.assertEqual(self.losses("narrow-" + level, None, sets), narrow)
        if plasmid.MPIEXEC:
            sets = ["attention.storage=BF16", "mesh.cp=2"]
            for one, two in zip(narrow, self.losses("narrow-ranks", 2, sets), strict=True):
                self.assertAlmostEqual(two, one, delta=1e-5 * one)

    def test_passes_of_a_batch_add_up(self):
        whole = self.losses("whole", None, ["train.batch=4", "train.micro_batch=4"])
        for one, two in zip(whole, self.losses("parts", None, ["train.batch=4"]), strict=True):
            self.assertAlmostEqual(two, one, delta=1e-5 * one)

    def test_saved_weights_are_a_model_to_start_from(self):
        self.losses("first")
        weights = self.folder / "first/checkpoints/step-3"
        # At rate 0 the loss of one batch is that of the weights; a longer run of `first` would meet it in step 4.
        longer = self.losses("longer", None, ["train.steps=4", "data.order=SEQUENTIAL"])
        self.losses("sequential", None, ["data.order=SEQUENTIAL"])
        weights = self.folder / "sequential/checkpoints/step-3"
        job = self.job("continued", model={})
        path = self.folder / "continued.textproto"
        path.write_text(job.read_text().replace("model { family: GPT2 layers: 2 width: 32 heads: 2 }",
                                                f'model {{ from: "{weights}" }}'))
        result = self.train(path, None, ["data.order=SEQUENTIAL", "optimizer.learning_rate=0", "train.steps=4"])
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(plasmid.metrics(self.folder / "continued")[3]["loss"], longer[3])

    def test_a_resolved_job_runs_again(self):
        losses = self.losses("run")
        resolved = self.folder / "run/job.textproto"
        result = self.train(resolved, None, [f"run_directory={self.folder / 'second'}"])
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual([row["loss"] for row in plasmid.metrics(self.folder / "second")], losses)

    def test_what_is_left_out_of_the_data_is_said(self):
        fasta = self.folder / "gap.fa"
        fasta.write_text(">full\n" + "ACGT" * 200 + "\n>hollow\n>last\n" + "GATTACA" * 50 + "\n")
        result = self.train(self.job(data={"files": [str(fasta)]}, train={"steps": 1}))
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("hollow", result.stdout)
        self.assertIn("hollow", (self.folder / "run/log.txt").read_text())

    def test_numbers_that_are_not_finite_stop_the_run(self):
        result = self.train(self.job(train={"steps": 50}), None, ["optimizer.learning_rate=1e25"])
        self.assertEqual(result.returncode, 70)
        self.assertRegex(result.stderr, r"^plasmid: step \d+: loss .* not finite.*\n$")
        self.assertEqual(plasmid.exit_record(self.folder / "run")["code"], 70)
        # Ruined weights must not become the checkpoint that a resume starts from.
        self.assertEqual(list((self.folder / "run").glob("checkpoints/step-*")), [])

    def test_max_seconds_ends_the_run_after_a_step(self):
        result = self.train(self.job(train={"steps": 10**6}), None, ["train.max_seconds=1e-9"])
        self.assertEqual(result.returncode, 75, result.stderr)
        self.assertEqual(len(plasmid.metrics(self.folder / "run")), 1)
        self.assertEqual(plasmid.exit_record(self.folder / "run"),
                         {"code": 75, "reason": "train.max_seconds passed after step 1 of 1000000", "retry": True})


class Signals(CommandTest):
    def stopped_by(self, which, ranks=None):
        job = self.job(train={"steps": 10**6}, mesh={"cp": ranks or 1})
        process = plasmid.start(["train", job], ranks)
        plasmid.wait_for_step(process, 1)
        process.send_signal(which)
        process.communicate(timeout=plasmid.TIMEOUT)
        record = plasmid.exit_record(self.folder / "run")
        steps = len(plasmid.metrics(self.folder / "run"))
        self.assertIn(f"after step {steps} of 1000000", record["reason"])
        self.assertTrue((self.folder / f"run/checkpoints/step-{steps}/model.safetensors").exists())
        return process.returncode, record

    def test_term_asks_to_be_requeued(self):
        code, record = self.stopped_by(signal.SIGTERM)
        self.assertEqual(code, 75)
        self.assertEqual((record["code"], record["retry"]), (75, True))

    def test_ctrl_c_ends_the_run(self):
        code, record = self.stopped_by(signal.SIGINT)
        self.assertEqual(code, 130)
        self.assertEqual((record["code"], record["retry"]), (130, False))

    @unittest.skipUnless(plasmid.MPIEXEC, "built without MPI")
    def test_term_to_the_launcher_reaches_every_rank(self):
        _, record = self.stopped_by(signal.SIGTERM, 2)
        self.assertEqual((record["code"], record["retry"]), (75, True))


if __name__ == "__main__":
    unittest.main(verbosity=2)
