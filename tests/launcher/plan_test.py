"""`plasmid plan`: a step predicted for ranks that need not be there."""

import json
import pathlib
import tempfile
import unittest

import plasmid_command as plasmid
from plasmid_command import Enum

PHAGE = plasmid.SOURCE / "cluster/data/lambda_phage.fa.gz"

# A machine made of round numbers: 1 ns a pair forward, 2.5 ns backward, 10 GFLOP/s, 10 GB/s.
RATES = {
    "head_dim": 32,
    "attention": [{"tokens": 1024, "forward_pair_seconds": 1e-9, "backward_pair_seconds": 2.5e-9}],
    "product_flops": 1e10,
    "bytes_per_second": 1e10,
}


class Plan(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="plasmid-plan-")
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.rates = self.write("rates.json", {"rates": RATES})
        self.job = self.folder / "job.textproto"
        self.job.write_text(plasmid.job_text({
            "run_directory": str(self.folder / "run"),
            "model": {"family": Enum("GPT2"), "layers": 2, "width": 128, "heads": 4},
            "data": {"files": [str(PHAGE)], "tokenizer": Enum("NUCLEOTIDE"), "sequence_length": 65536},
            "optimizer": {"learning_rate": 1e-3},
            "train": {"steps": 1},
        }))

    def write(self, name, content):
        path = self.folder / name
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    def plan(self, *arguments, ceilings=None):
        result = plasmid.run(["plan", self.job, "--ceilings", ceilings or self.rates, "--json", *arguments])
        self.assertEqual((result.returncode, result.stderr), (0, ""), result.stdout)
        return json.loads(result.stdout)

    def refused(self, code, words, *arguments):
        result = plasmid.run(["plan", self.job, *arguments])
        lines = plasmid.our_lines(result.stderr)
        self.assertEqual((result.returncode, len(lines), result.stdout), (code, 1, ""), result.stderr)
        for word in words:
            self.assertIn(word, lines[0])

    def test_one_to_a_thousand_ranks(self):
        told = self.plan("--link", "10Gbit/s,20us")
        self.assertEqual([row["ranks"] for row in told["rows"]], [2**i for i in range(11)])
        self.assertEqual([row["tokens_per_rank"] for row in told["rows"]], [65536 >> i for i in range(11)])
        first = told["rows"][0]
        pairs = 65536 * 65537 / 2
        self.assertAlmostEqual(first["attention_seconds"], 2 * 4 * pairs * 3.5e-9, places=6)
        self.assertEqual((first["exposed"], first["efficiency"]), (0, 1))
        for before, after in zip(told["rows"], told["rows"][1:]):
            self.assertLess(after["bytes_per_rank"], before["bytes_per_rank"])
            self.assertGreaterEqual(after["exposed"], before["exposed"])
            self.assertLess(after["attention_seconds"], before["attention_seconds"])
        self.assertFalse((self.folder / "run").exists())

    def test_bytes_are_those_of_a_dry_run(self):
        row = self.plan("--ranks", "8", "--link", "10Gbit/s,20us")["rows"][0]
        dry = plasmid.run(["train", self.job, "--dry-run", "--set", "mesh.cp=8"])
        self.assertIn(f" {row['bytes_per_rank']} ", dry.stdout)
        few = self.plan("--ranks", "8", "--link", "10Gbit/s,20us", "--host-memory", "0.001")["rows"][0]
        self.assertFalse(few["fits"])
        many = self.plan("--ranks", "8", "--link", "10Gbit/s,20us", "--host-memory", "1000")["rows"][0]
        self.assertTrue(many["fits"])

    def test_a_slower_link_shows_earlier(self):
        fast, slow = (self.plan("--link", link) for link in ("100Gbit/s,5us", "100Mbit/s,100us"))
        self.assertLess(fast["hidden_from_tokens"], slow["hidden_from_tokens"])
        for a, b in zip(fast["rows"][1:], slow["rows"][1:]):
            self.assertLess(a["exposed"], b["exposed"])
            self.assertLess(a["step_seconds"], b["step_seconds"])
        # 8 x 128 bytes a token forward over 12.5 MB/s, against 4 heads x T / 2 x 1 ns: and a latency.
        threshold = 8 * 128 / 12.5e6 / 2e-9
        self.assertAlmostEqual(slow["hidden_from_tokens"] / threshold, 1, delta=0.01)

    def test_hosts_share_a_link(self):
        alone = self.plan("--ranks", "64", "--link", "1Gbit/s,50us")["rows"][0]
        packed = self.plan("--ranks", "64", "--link", "1Gbit/s,50us", "--inside-link", "80Gbit/s,1us",
                           "--ranks-per-host", "64")["rows"][0]
        self.assertLess(packed["exposed_ring_seconds"], alone["exposed_ring_seconds"])

    def test_data_parallel_groups_keep_their_rings(self):
        told = self.plan("--set", "mesh.dp=2", "--set", "train.batch=4", "--ranks", "2,4,8", "--link", "1Gbit/s,50us")
        self.assertEqual([(row["dp"], row["cp"]) for row in told["rows"]], [(2, 1), (2, 2), (2, 4)])
        self.refused(64, ["--ranks", "3", "mesh.dp 2"], "--set", "mesh.dp=2", "--set", "train.batch=4", "--ranks", "3",
                     "--ceilings", self.rates, "--link", "1Gbit/s,50us")

    def test_its_own_json_is_read_again(self):
        first = self.plan("--link", "1Gbit/s,50us")
        again = self.plan(ceilings=self.write("again.json", first))
        self.assertEqual(again["rates"], first["rates"])
        self.assertEqual(again["rows"], first["rows"])

    def test_what_no_file_tells_is_measured(self):
        self.job.write_text(self.job.read_text().replace("65536", "256"))
        result = plasmid.run(["plan", self.job, "--ranks", "1,2", "--link", "1Gbit/s,50us", "--json"])
        self.assertEqual(result.returncode, 0, result.stderr)
        told = json.loads(result.stdout)
        self.assertGreater(told["rates"]["product_flops"], 0)
        self.assertGreater(told["rows"][0]["step_seconds"], told["rows"][0]["attention_seconds"])

    def test_results_of_bench_are_read(self):
        measured = self.folder / "attention.json"
        result = plasmid.run(["bench", "attention", "--tokens", "256", "--d", "32", "--repeats", "5", "--json", measured])
        self.assertEqual(result.returncode, 0, result.stderr)
        rows = {row["shape"]["pass"]: row["median"] for row in json.loads(measured.read_text())["rows"]}
        rates = self.plan("--ranks", "1", ceilings=measured)["rates"]
        self.assertEqual(rates["head_dim"], 32)
        pair = rates["attention"][0]
        self.assertAlmostEqual(pair["forward_pair_seconds"] * 256 * 257 / 2 / rows["forward"], 1, places=9)
        self.assertAlmostEqual(pair["backward_pair_seconds"] * 256 * 257 / 2 / rows["backward"], 1, places=9)

    def test_ranks_measure_their_own_link(self):
        if not plasmid.MPIEXEC:
            self.skipTest("built without MPI")
        result = plasmid.run(["plan", self.job, "--ceilings", self.rates, "--ranks", "2", "--ranks-per-host", "2",
                              "--json"], ranks=2)
        self.assertEqual(result.returncode, 0, result.stderr)
        inside = json.loads(result.stdout)["rates"]["inside"]
        self.assertGreater(inside["bytes_per_second"], 0)

    def test_what_cannot_be_planned_is_refused(self):
        link = ["--link", "1Gbit/s,50us"]
        self.refused(64, ["--link", "between hosts"], "--ceilings", self.rates, "--ranks", "2")
        self.refused(64, ["--inside-link"], "--ceilings", self.rates, "--ranks", "2", "--ranks-per-host", "2")
        self.refused(64, ["'1Gbit'", "comma"], "--link", "1Gbit")
        self.refused(64, ["--ranks"], "--ranks", "0", *link)
        self.refused(64, ["--ranks"], "--ranks", "two", *link)
        self.refused(66, ["none.json"], "--ceilings", self.folder / "none.json", *link)
        self.refused(65, ["rates.txt"], "--ceilings", self.write("rates.txt", "not JSON"), *link)
        self.refused(65, ["other.json"], "--ceilings", self.write("other.json", {"loss": 1}), *link)
        self.refused(65, ["half.json"], "--ceilings", self.write("half.json", {"rates": {"head_dim": 32}}), *link)
        negative = {**RATES, "product_flops": -1}
        self.refused(65, ["negative.json"], "--ceilings", self.write("negative.json", {"rates": negative}), *link)
        self.refused(78, ["attention.storage"], "--set", "attention.storage=BF16", "--ceilings", self.rates, *link)
        self.refused(78, ["model.heads"], "--set", "model.heads=5", "--ceilings", self.rates, *link)
        result = plasmid.run(["plan", self.folder / "none.textproto", *link])
        self.assertEqual((result.returncode, len(plasmid.our_lines(result.stderr))), (66, 1))


if __name__ == "__main__":
    unittest.main()
