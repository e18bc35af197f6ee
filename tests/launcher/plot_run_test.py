"""cluster/plot_run.py draws a run's rows, the same file every time, and refuses in one line what it cannot draw. Needs no
built program. Pictures are left out where Python has no matplotlib."""

import importlib.util
import json
import math
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

SCRIPT = pathlib.Path(os.environ["PLASMID_SOURCE"]) / "cluster/plot_run.py"
HAS_MATPLOTLIB = importlib.util.find_spec("matplotlib") is not None
TOKENS = 16384


def step(number, loss):
    return {"step": number, "tokens": number * TOKENS, "loss": loss, "grad_norm": 1.0}


def held_out(number, loss):
    return {"step": number, "tokens": number * TOKENS, "held_out_loss": loss, "held_out_bits": loss / math.log(2)}


class PlotTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="plasmid-plot-")
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def run_of(self, name, rows, tokenizer="NUCLEOTIDE"):
        run = self.folder / name
        run.mkdir()
        (run / "job.textproto").write_text(f"data {{\n  tokenizer: {tokenizer}\n}}\n")
        (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return run

    def falling(self, name="run", tokenizer="NUCLEOTIDE"):
        rows = []
        for number in range(1, 121):
            rows.append(step(number, 1.34 + 0.3 / number + 0.01 * math.sin(7 * number)))
            if number % 40 == 0:
                rows.append(held_out(number, 1.35 + 0.2 / number))
        return self.run_of(name, rows, tokenizer)

    def plot(self, *arguments, code=0):
        result = subprocess.run([sys.executable, "-B", str(SCRIPT), *map(str, arguments)], capture_output=True, text=True)
        self.assertEqual(result.returncode, code, result.stderr)
        if code:
            self.assertRegex(result.stderr, r"\Aplot_run\.py: [^\n]+\n\Z")
        return result

    def refused(self, code, line, *arguments):
        self.assertIn(line, self.plot(*arguments, code=code).stderr)


@unittest.skipUnless(HAS_MATPLOTLIB, "no matplotlib")
class Pictures(PlotTest):
    def test_an_svg_has_every_curve_and_is_the_same_again(self):
        evaluation = self.folder / "eval.json"
        evaluation.write_text(json.dumps({"markov": {"best_order": 2, "bits": [2.0, 1.96, 1.9412, 1.95]}}))
        run, pictures = self.falling(), [self.folder / "a.svg", self.folder / "b.svg"]
        for picture in pictures:
            self.plot(run, "-o", picture, "--markov", evaluation)
        self.assertEqual(*[picture.read_bytes() for picture in pictures])
        text = pictures[0].read_text()
        for label in ("training, mean of 3 steps", "held out", "best Markov model (order 2): 1.9412", "bits per base",
                      "million bases trained on"):
            self.assertIn(f">{label}</text>", text)
        self.assertNotRegex(text, r"\d{4}-\d\d-\d\d|[Mm]atplotlib v")
        # One mark for an evaluation, and one in the legend.
        marks = re.search(r'<g id="line2d_\d+">(?:(?!<g id=).)*?<path id="(m\w+)" d="M 0 2\.5', text, re.DOTALL).group(1)
        self.assertEqual(len(re.findall(rf'xlink:href="#{marks}"', text)), 3 + 1)

    def test_several_runs_are_named(self):
        picture = self.folder / "two.svg"
        self.plot(self.falling("first"), self.falling("second"), "-o", picture, "--markov", "1.95", "--smooth", "1")
        for label in ("first: training", "second: training", "first: held out", "best Markov model: 1.9500"):
            self.assertIn(f">{label}</text>", picture.read_text())

    def test_a_png(self):
        picture = self.folder / "a.png"
        self.plot(self.falling(), "-o", picture)
        self.assertTrue(picture.read_bytes().startswith(b"\x89PNG"))

    def test_a_row_under_way_is_left_for_later(self):
        run = self.falling()
        with open(run / "metrics.jsonl", "a") as rows:
            rows.write('{"step": 121, "tok')
        self.plot(run, "-o", self.folder / "a.svg")

    def test_a_folder_that_is_not_there(self):
        self.refused(73, "nowhere/a.svg: No such file", self.falling(), "-o", self.folder / "nowhere/a.svg")


class Refusals(PlotTest):
    def test_the_command_line(self):
        run = self.falling()
        self.refused(64, "-o/--output", run)
        self.refused(64, "a.pdf: a picture's name ends in .svg or .png", run, "-o", "a.pdf")
        self.refused(64, "--smooth -1 is negative", run, "-o", "a.svg", "--smooth", "-1")

    def test_what_it_reads(self):
        run, picture = self.falling(), self.folder / "a.svg"
        self.refused(66, "nowhere/metrics.jsonl: No such file", self.folder / "nowhere", "-o", picture)
        self.refused(66, "nothing.json: No such file", run, "-o", picture, "--markov", self.folder / "nothing.json")
        bad = self.run_of("bad", [step(1, 1.4), {"step": 2}])
        self.refused(65, "bad/metrics.jsonl:2: not a row of metrics", bad, "-o", picture)
        self.refused(65, "empty/metrics.jsonl: holds no step", self.run_of("empty", []), "-o", picture)
        self.refused(65, "bits per base and per byte", run, self.falling("text", "BYTE"), "-o", picture)
        without = self.folder / "eval.json"
        without.write_text('{"held_out_bits": 1.9}')
        self.refused(65, "eval.json: no Markov models in it", run, "-o", picture, "--markov", without)
        self.assertFalse(picture.exists())

    @unittest.skipIf(HAS_MATPLOTLIB, "matplotlib is here")
    def test_without_matplotlib_the_package_is_named(self):
        self.refused(69, "apt-get install python3-matplotlib", self.falling(), "-o", self.folder / "a.svg")


if __name__ == "__main__":
    unittest.main()
