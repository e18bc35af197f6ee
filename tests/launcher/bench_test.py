"""`plasmid bench`: every sub-command at small sizes, alone and over ranks; what its JSON holds; what is refused. How long
anything takes is nobody's business here."""

import json
import pathlib
import subprocess
import tempfile
import unittest

import plasmid_command as plasmid
from plasmid_command import Enum

MODEL = ["--layers", "2", "--width", "32", "--heads", "2"]
ENVIRONMENT = ["cpu", "processors", "memory_bytes", "simd", "threads", "ranks", "hosts", "mpi", "compiler", "flags",
               "version", "commit", "variables", "load", "time"]
RATES = ["rate", "of_fma", "of_sgemm", "FMA_loop", "wall_to_cpu"]
ATTENTION = ["attention", "--tokens", "200", "--heads", "2", "--d", "16"]


class BenchTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="plasmid-bench-")
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def bench(self, *arguments, ranks=None):
        return plasmid.run(["bench", *arguments], ranks)

    def result(self, *arguments, ranks=None):
        """Runs with --json; what it wrote, after the table and the environment were looked at."""
        path = self.folder / "result.json"
        run = self.bench(*arguments, "--json", path, ranks=ranks)
        self.assertEqual((run.returncode, plasmid.our_lines(run.stderr)), (0, []), run.stderr)
        content = json.loads(path.read_text())
        self.assertEqual(content["benchmark"], arguments[0])
        self.assertEqual(list(content["environment"]), ENVIRONMENT)
        self.assertEqual(content["environment"]["ranks"], ranks or 1)
        for row in content["rows"]:
            self.assertIn(row["name"], run.stdout)
            self.assertLessEqual(row["low"], row["median"])
            self.assertLessEqual(row["median"], row["high"])
        return content

    def check_times(self, row, repetitions=7):
        self.assertEqual(row["unit"], "s")
        self.assertEqual(len(row["repetitions"]), repetitions)
        for times in row["repetitions"]:
            self.assertEqual(list(times), ["wall", "cpu", "thread"])
            self.assertGreater(times["wall"], 0)
        self.assertEqual(list(row["ceilings"]), ["fma", "sgemm", "triad"])
        for ceiling in row["ceilings"].values():
            self.assertGreater(min(ceiling["before"], ceiling["after"]), 0)
        self.assertEqual(list(row["figures"])[:len(RATES)], RATES)

    def refused(self, status, words, *arguments, ranks=None):
        run = self.bench(*arguments, ranks=ranks)
        lines = plasmid.our_lines(run.stderr)
        self.assertEqual((run.returncode, len(lines), run.stdout), (status, 1, ""), run.stderr)
        self.assertIn(words, lines[0])


class Commands(BenchTest):
    def test_help_shows_an_example_everywhere(self):
        for name in ([], ["attention"], ["step"], ["ring"], ["memory"], ["compare"]):
            run = self.bench(*name, "--help")
            self.assertEqual(run.returncode, 0)
            self.assertRegex(run.stdout, r"Example: .*plasmid bench ")

    def test_attention(self):
        content = self.result(*ATTENTION, "--repeats", "5", "--kv-heads", "1")
        self.assertEqual([row["shape"]["pass"] for row in content["rows"]], ["forward", "backward", "both"])
        pairs = 2 * 16 * 200 * 201 / 2
        for row, flops in zip(content["rows"], (4 * pairs, 10 * pairs, 14 * pairs)):
            self.check_times(row, 5)
            self.assertAlmostEqual(row["figures"]["rate"] * row["median"] / flops, 1)
            self.assertEqual(row["clock"], "thread CPU")

    def test_attention_of_windows_threads_dropout_and_narrow_vectors(self):
        content = self.result("attention", "--tokens", "100,130", "--mask", "window", "--window", "20", "--threads", "2",
                              "--simd", "SSE4", "--pass", "both", "--dropout", "0.1")
        self.assertEqual([row["shape"]["tokens"] for row in content["rows"]], [100, 130])
        self.assertEqual((content["environment"]["simd"], content["environment"]["threads"]), ("SSE4", 2))
        pairs = 20 * 21 / 2 + 80 * 20
        self.assertAlmostEqual(content["rows"][0]["figures"]["rate"] * content["rows"][0]["median"] / (14 * 64 * pairs), 1)
        self.assertEqual(content["rows"][0]["clock"], "wall")

    def test_step(self):
        for family in ("GPT2", "LLAMA"):
            content = self.result("step", *MODEL, "--family", family, "--tokens", "64,128")
            for row in content["rows"]:
                self.check_times(row)
                self.assertLess(row["figures"]["ledger_peak"], row["figures"]["resident_peak"])
                self.assertAlmostEqual(row["figures"]["tokens"] * row["median"], row["shape"]["tokens"])

    def test_step_of_a_job(self):
        job = self.folder / "job.textproto"
        job.write_text(plasmid.job_text({
            "run_directory": str(self.folder / "run"),
            "model": {"family": Enum("LLAMA"), "layers": 1, "width": 32, "heads": 2, "dropout": 0.1},
            "data": {"files": [str(plasmid.SOURCE / "cluster/data/lambda_phage.fa.gz")],
                     "tokenizer": Enum("NUCLEOTIDE"), "sequence_length": 100},
            "optimizer": {"learning_rate": 1e-2, "warmup_steps": 3}, "train": {"steps": 3, "batch": 4}}))
        content = self.result("step", "--job", job, "--set", "train.micro_batch=2")
        self.assertEqual(content["rows"][0]["shape"]["micro_batch"], 2)
        self.assertFalse((self.folder / "run").exists())
        self.refused(78, "model.heads", "step", "--job", job, "--set", "model.heads=5")

    def test_memory_is_what_cost_tells(self):
        content = self.result("memory", *MODEL, "--tokens", "100,300", "--recompute", "NONE,ALL")
        self.assertEqual(len(content["rows"]), 4)
        for row in content["rows"]:
            figures = row["figures"]
            self.assertEqual(row["unit"], "byte")
            self.assertLessEqual(figures["peak"], figures["cost"])
            self.assertLess(figures["cost"], 1.1 * figures["peak"])
            self.assertEqual(figures["moments"], 2 * figures["weights"])
            self.assertIn("weights", row["details"]["peak_by_tag_on_rank_0"])

    @unittest.skipUnless(plasmid.MPIEXEC, "built without MPI")
    def test_over_ranks(self):
        for ranks, tokens in ((2, "64"), (3, "96")):
            content = self.result("ring", "--tokens", tokens, "--heads", "2", "--kv-heads", "1", "--d", "8", ranks=ranks)
            for row in content["rows"]:
                self.check_times(row)
                self.assertEqual(len(row["beside"]), 7)
                chunk = 2 * int(tokens) // ranks * 8 * 4
                chunks = {"forward": ranks - 1, "backward": 2 * (ranks - 1), "both": 3 * (ranks - 1)}
                self.assertEqual(row["figures"]["sent"], chunk * chunks[row["shape"]["pass"]])
        content = self.result("memory", *MODEL, "--tokens", "100", "--dp", "1,2", "--recompute", "CORE", ranks=2)
        self.assertEqual([row["shape"]["mesh"]["cp"] for row in content["rows"]], [2, 1])
        self.result("step", *MODEL, "--tokens", "64", "--dp", "2", ranks=2)

    def test_on_request_one_call_a_line(self):
        for ranks in [None, 2] if plasmid.MPIEXEC else [None]:
            name = "ring" if ranks else "attention"
            arguments = ["bench", name, "--tokens", "64", "--pass", "both", "--on-request"]
            run = subprocess.run(plasmid.command_line(arguments, ranks), input="\n\n\n", env=plasmid.environment(),
                                 capture_output=True, text=True, timeout=plasmid.TIMEOUT)
            self.assertEqual(run.returncode, 0, run.stderr)
            ready, *calls = map(json.loads, run.stdout.splitlines())
            self.assertEqual((ready["shape"]["tokens"], len(ready["pids"]), len(calls)), (64, ranks or 1, 3))
            for call in calls:
                self.assertEqual(list(call), ["wall", "cpu", "thread", "fma", "resident_peak"])


class Refused(BenchTest):
    def test_what_is_no_shape(self):
        self.refused(64, "--kv-heads: 3 does not divide --heads 4", "attention", "--heads", "4", "--kv-heads", "3")
        self.refused(64, "--window", "attention", "--mask", "window")
        self.refused(64, "--window", "attention", "--window", "5")
        self.refused(64, "--mask", "attention", "--mask", "diagonal")
        self.refused(64, "--tokens", "attention", "--tokens", "0")
        self.refused(64, "--repeats", "attention", "--repeats", "4")
        self.refused(64, "one workload", "attention", "--on-request")
        self.refused(64, "--json", "attention", "--on-request", "--json", self.folder / "a.json")
        self.refused(78, "--heads", "step", *MODEL[:4], "--heads", "5")
        self.refused(78, "--vocabulary", "step", *MODEL, "--vocabulary", "5")
        self.refused(64, "--dp: 2 does not divide 1 rank", "step", *MODEL, "--dp", "2")
        self.refused(64, "--job", "step", "--job", "job", "--layers", "2")
        self.refused(66, "job", "step", "--job", self.folder / "none")
        self.refused(64, "a ring of 1 rank", "ring")

    def test_a_file_that_cannot_be_written_is_known_first(self):
        self.refused(73, "nowhere", *ATTENTION, "--json", self.folder / "nowhere" / "a.json")

    @unittest.skipUnless(plasmid.MPIEXEC, "built without MPI")
    def test_over_ranks(self):
        self.refused(64, "plasmid bench ring", *ATTENTION, ranks=2)
        self.refused(64, "100 is no multiple of 2 x 3 ranks: remainder 4", "ring", "--tokens", "100", ranks=3)
        self.refused(73, "nowhere", "ring", "--tokens", "64", "--json", self.folder / "nowhere" / "a.json", ranks=2)


class Compare(BenchTest):
    def write(self, file, times=1.0, environment=(), **changes):
        row = {"name": "a", "shape": {"tokens": 5}, "unit": "s", "clock": "wall", "median": times, "low": 0.9 * times,
               "high": 1.1 * times, **changes}
        path = self.folder / file
        path.write_text(json.dumps({"benchmark": "step", "environment": {"cpu": "x", **dict(environment)},
                                    "rows": [row]}))
        return path

    def compare(self, *arguments):
        return self.bench("compare", *arguments)

    def test_a_result_equals_itself(self):
        self.result(*ATTENTION)
        path = self.folder / "result.json"
        run = self.compare(path, path, "--fail-above", "1")
        self.assertEqual((run.returncode, run.stderr), (0, ""))
        self.assertEqual(run.stdout.count("within the spread"), 3)
        self.assertEqual(run.stdout.count(" 1.000 "), 3)

    def test_outside_the_spread(self):
        before, near, far = self.write("a"), self.write("near", 1.15), self.write("far", 1.4)
        self.assertIn("within the spread", self.compare(before, near).stdout)
        self.assertIn("more, outside the spread", self.compare(before, far).stdout)
        self.assertIn("less, outside the spread", self.compare(far, before).stdout)
        for after, limit, status in ((near, "1.1", 0), (far, "1.1", 1), (far, "1.5", 0)):
            self.assertEqual(self.compare(before, after, "--fail-above", limit).returncode, status)
        self.assertEqual(self.compare(far, before, "--fail-above", "1.1").returncode, 0)

    def test_environments_that_differ_are_told(self):
        run = self.compare(self.write("a"), self.write("b", environment={"cpu": "y", "time": "now"}.items()))
        self.assertEqual(run.returncode, 0)
        self.assertEqual(run.stderr, 'plasmid: warning: environments differ: cpu "x" before, "y" after\n')

    def test_what_is_not_compared(self):
        before = self.write("a")
        for words, after in (("shapes", self.write("b", shape={"tokens": 6})), ("no row", self.write("c", name="b")),
                             ("thread CPU time", self.write("d", clock="thread CPU")),
                             ("no result", self.write("e", median="1")), ("no result", self.write("f", low=-1.0))):
            self.refused(65, words, "compare", before, after)
        text = self.folder / "text"
        text.write_text("no JSON")
        self.refused(65, "text: no result of plasmid bench", "compare", before, text)
        self.refused(66, "none: cannot be read", "compare", before, self.folder / "none")
        self.refused(64, "--fail-above", "compare", before, before, "--fail-above", "-1")


if __name__ == "__main__":
    unittest.main()
