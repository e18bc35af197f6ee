"""A Reformer through the command: it trains alike on one rank and on two, goes on from its checkpoint to the bit, is
evaluated with the hashes it was trained with, and its directory is a model to start from.

Usage: reformer_test.py"""

import json
import unittest

import plasmid_command as plasmid
from plasmid_command import Enum
from run_case import RunTest

MODEL = {"family": Enum("REFORMER"), "layers": 2, "width": 32, "heads": 2, "layer_kinds": [Enum("LOCAL"), Enum("LSH")],
         "local_chunk": 16, "lsh_chunk": 16, "lsh_rounds": 2}


class ReformerTest(RunTest):
    def reformer(self, name="run", steps=4, ranks=None, **groups):
        path = self.job(name, steps, ranks, data={"held_out_fraction": 0.01}, **groups)
        fields = path.read_text()
        start = fields.index("model {")
        end = fields.index("}", start) + 1
        path.write_text(fields[:start] + plasmid.job_text({"model": MODEL}) + fields[end:])
        return path

    def losses(self, name="run"):
        return [(row["loss"], row["grad_norm"]) for row in self.rows(name) if "loss" in row]

    def test_two_ranks_equal_one(self):
        self.train(self.reformer("one"))
        self.train(self.reformer("two", ranks=2), ranks=2)
        # Sums over tokens are rounded in another order, and a token near a border of two buckets may change sides.
        for step, (one, two) in enumerate(zip(self.losses("one"), self.losses("two"), strict=True)):
            self.assertAlmostEqual(one[0], two[0], delta=(1e-3 if step else 1e-5) * one[0])

    def test_resumes_to_the_bit_and_is_evaluated(self):
        self.train(self.reformer("whole"))
        self.train(self.reformer("parts", steps=2))
        self.train(self.reformer("parts"))
        self.assertEqual(self.losses("parts"), self.losses("whole"))
        held_out = self.rows("whole")[-1]["held_out_loss"]
        result = plasmid.run(["eval", self.folder / "whole", "--json"])
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertAlmostEqual(json.loads(result.stdout)["held_out_loss"], held_out, delta=1e-12 * held_out)

    def test_starts_from_its_own_directory(self):
        self.train(self.reformer())
        out = self.folder / "exported"
        result = plasmid.run(["checkpoint", "export", self.folder / "run", "--to", out])
        self.assertEqual(result.returncode, 0, result.stderr)
        config = json.loads((out / "config.json").read_text())
        self.assertEqual((config["model_type"], config["attn_layers"], config["num_hashes"]),
                         ("reformer", ["local", "lsh"], 2))
        self.train(self.job("next", 1, model={"from": str(out)}, **{"data": {}}), code=78)  # GPT2 contradicts it
        path = self.job("next", 1)
        text = path.read_text()
        start = text.index("model {")
        path.write_text(text[:start] + f'model {{ from: "{out}" }}' + text[text.index("}", start) + 1:])
        self.train(path)
        self.train(path, code=78, sets=["model.lsh_rounds=3", "run_directory=" + str(self.folder / "other")])

    def test_refuses_what_is_not_its_own(self):
        for assignment in ("model.lsh_rounds=3", "model.layer_kinds=LSH", "model.local_chunk=8"):
            result = self.train(self.job(), code=78, sets=[assignment])
            self.assertIn("REFORMER", result.stderr)
        for assignment in ("model.lsh_buckets=7", "model.lsh_chunk=0", "attention.window_left=5", "model.kv_heads=1"):
            self.train(self.reformer(), code=78, sets=[assignment])


if __name__ == "__main__":
    unittest.main(verbosity=2)
