"""`plasmid bench scaling`, and `bench ring` on ranks that replay: results are well formed, and nothing is timed here."""

import json
import pathlib
import tempfile
import unittest
import xml.etree.ElementTree

import plasmid_command as plasmid

SHAPE = ["--layers", "1", "--width", "32", "--heads", "2", "--threads", "1", "--repeats", "5"]


@unittest.skipUnless(plasmid.MPIEXEC, "built without MPI")
class Scaling(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="plasmid-scaling-")
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def bench(self, name, *arguments, ranks, code=0):
        out = self.folder / "out.json"
        result = plasmid.run(["bench", name, *arguments] + (["--json", out] if code == 0 else []), ranks=ranks)
        self.assertEqual(result.returncode, code, result.stdout + result.stderr)
        if code:
            self.assertEqual(len(plasmid.our_lines(result.stderr)), 1, result.stderr)
            return result.stderr
        self.printed = result.stdout
        return json.loads(out.read_text())

    def check_rows(self, told, counts, tokens):
        self.assertEqual(told["benchmark"], "scaling")
        self.assertEqual([row["shape"]["mesh"]["cp"] for row in told["rows"]], counts)
        self.assertEqual([row["shape"]["tokens"] for row in told["rows"]], tokens)
        for row in told["rows"]:
            self.assertEqual(len(row["repetitions"]), 5)
            self.assertAlmostEqual(row["figures"]["efficiency"], row["figures"]["ideal"] / row["median"], places=9)
        self.assertEqual(told["rows"][0]["figures"]["efficiency"], 1)

    def test_strong_halves_the_ideal(self):
        told = self.bench("scaling", *SHAPE, "--tokens", "256", ranks=3)
        self.check_rows(told, [1, 2, 3], [256, 256, 256])
        one, two, three = (row["figures"]["ideal"] for row in told["rows"])
        self.assertAlmostEqual(two / one, 1 / 2, delta=0.01)
        self.assertAlmostEqual(three / one, 1 / 3, delta=0.01)

    def test_weak_grows_with_the_window(self):
        told = self.bench("scaling", *SHAPE, "--tokens", "128", "--ranks", "4,1", "--weak", ranks=4)
        self.check_rows(told, [1, 4], [128, 512])
        # 6 x (12 width^2 + 256 width) FLOPs a token, and 12 width times half the window.
        products, width = 6 * (12 * 32 * 32 + 256 * 32), 32
        ideal = (products + 12 * width * 256) / (products + 12 * width * 64)
        self.assertAlmostEqual(told["rows"][1]["figures"]["ideal"] / told["rows"][0]["figures"]["ideal"], ideal, delta=0.01)

    def test_plots_are_what_their_names_say(self):
        prefix = self.folder / "plot"
        arguments = [*SHAPE, "--tokens", "64", "--plot", prefix]
        refused = plasmid.run(["bench", "scaling", *arguments], ranks=2)
        if refused.returncode == 78:
            self.assertIn("without Cairo", refused.stderr)
            self.skipTest("built without Cairo")
        self.assertEqual(refused.returncode, 0, refused.stderr)
        root = xml.etree.ElementTree.parse(f"{prefix}.svg").getroot()
        self.assertTrue(root.tag.endswith("svg"))
        self.assertGreater(sum(1 for _ in root.iter()), 20)
        self.assertEqual(pathlib.Path(f"{prefix}.png").read_bytes()[:8], b"\x89PNG\r\n\x1a\n")

    def test_what_cannot_be_measured_is_refused(self):
        error = self.bench("scaling", "--ranks", "1,4", ranks=2, code=64)
        self.assertIn("4 ranks, but 2 were started", error)
        self.assertIn("--tokens", self.bench("scaling", "--tokens", "64,128", ranks=2, code=64))
        self.assertIn("--ranks", self.bench("scaling", "--ranks", "0", ranks=2, code=64))
        self.assertIn("--weak", self.bench("scaling", "--weak", "--strong", ranks=2, code=64))
        # Refused by the group of one rank, while the other sleeps.
        self.assertIn("--heads", self.bench("scaling", "--width", "32", "--heads", "5", ranks=2, code=78))
        self.assertIn("nowhere", self.bench("scaling", *SHAPE, "--tokens", "64", "--plot", self.folder / "nowhere/plot",
                                            ranks=2, code=74))

    def test_replay_waits_for_its_pairs(self):
        told = self.bench("ring", "--tokens", "128", "--heads", "2", "--d", "8", "--replay", "1e-6,2e-6", "--threads", "1",
                          "--repeats", "5", ranks=2)
        pairs = 2 * 128 * 129 / 2
        seconds = {"forward": pairs * 1e-6 / 2, "backward": pairs * 2e-6 / 2, "both": pairs * 3e-6 / 2}
        for row in told["rows"]:
            # A rank has half of the pairs; the model adds transfers that do not hide.
            self.assertGreaterEqual(row["median"], 0.99 * seconds[row["shape"]["pass"]])
            self.assertGreaterEqual(row["figures"]["predicted"], 0.99 * seconds[row["shape"]["pass"]])
            self.assertEqual(row["shape"]["replay"], "1e-6,2e-6")
            self.assertNotIn("of_fma", row["figures"])
        self.assertIn("--replay", self.bench("ring", "--replay", "fast", ranks=2, code=64))


if __name__ == "__main__":
    unittest.main()
