"""Kinds of data through the built command: circles and strands over ranks, documents, tokenizers; `plasmid data`."""

import json
import subprocess
import unittest

import plasmid_command as plasmid
from plasmid_command import Enum
from run_case import PHAGE, RunTest

TOKENIZERS = plasmid.SOURCE / "tests/reference/bpe"
OTHER_RANKS = 1e-5  # relative, of each step's loss: another order of summation in float32


class DataTest(RunTest):
    def write(self, name, content):
        (self.folder / name).write_text(content, encoding="utf-8")
        return str(self.folder / name)

    def documents(self):
        return self.write("documents.jsonl", "".join(
            json.dumps({"number": i, "text": f"document {i} says \u00e9\U0001f600 hello", "body": "x" * (i % 7)}) + "\n"
            for i in range(200)))

    def close(self, first, second):
        self.assertEqual(len(first), len(second))
        for one, other in zip(first, second):
            self.assertLessEqual(abs(one[0] - other[0]), OTHER_RANKS * abs(one[0]))


class Training(DataTest):
    @unittest.skipUnless(plasmid.MPIEXEC, "a build without MPI")
    def test_circles_and_strands_are_the_same_on_any_ranks(self):
        strands = {"circular": True, "reverse_complement": True}
        self.train(self.job("one", steps=8, data=strands))
        self.train(self.job("two", steps=8, ranks=2, data=strands), ranks=2)
        self.train(self.job("groups", steps=8, data=strands, mesh={"dp": 2, "cp": 1}), ranks=2)
        self.train(self.job("plain", steps=8))
        self.close(self.losses("one"), self.losses("two"))
        self.close(self.losses("one"), self.losses("groups"))
        self.assertNotEqual(self.losses("one")[0], self.losses("plain")[0])

    @unittest.skipUnless(plasmid.MPIEXEC, "a build without MPI")
    def test_ranks_that_find_other_files_are_refused(self):
        # Each rank starts in a folder of its own, whose files have the same names and lengths.
        fields = {"data": {"files": ["t.txt"], "held_out_files": ["h.txt"], "tokenizer": Enum("BYTE"),
                           "sequence_length": 32}, "run_directory": str(self.folder / "run"),
                  "model": {"family": Enum("GPT2"), "layers": 1, "width": 16, "heads": 2}, "mesh": {"dp": 2},
                  "optimizer": {"learning_rate": 1e-3}, "train": {"steps": 2, "batch": 2}}
        job = self.write("job.textproto", plasmid.job_text(fields))
        for different, named in (("t.txt", "data.files: content"), ("h.txt", "held-out data: content")):
            line = list(plasmid.MPIEXEC)
            for rank in ("0", "1"):
                folder = self.folder / (different + rank)
                folder.mkdir()
                for name in ("t.txt", "h.txt"):
                    (folder / name).write_text("some text of a file. " * 40 + (rank if name == different else "same"))
                command = f"cd '{folder}' && exec '{plasmid.PROGRAM}' train '{job}'"
                line += ["1", "sh", "-c", command] + ([":", plasmid.MPIEXEC[-1]] if rank == "0" else [])
            result = subprocess.run(line, env=plasmid.environment(), capture_output=True, text=True, timeout=120)
            self.assertEqual(result.returncode, 65, result.stderr)
            self.assertEqual(plasmid.our_lines(result.stderr),
                             [f"plasmid: {named}: differs between the ranks; each must find the same files"])
            self.assertFalse((self.folder / "run").exists())

    def test_goes_on_along_the_same_windows(self):
        strands = {"circular": True, "reverse_complement": True}
        self.train(self.job("whole", steps=6, data=strands))
        self.train(self.job("parts", steps=3, data=strands))
        refused = self.train(self.job("parts", steps=6), code=78)
        self.assertIn("data.circular: false in this job, true in ", refused.stderr)
        self.train(self.job("parts", steps=6, data=strands))
        self.assertEqual(self.losses("parts"), self.losses("whole"))

    def test_documents_and_their_padding(self):
        data = {"files": [self.documents()], "tokenizer": Enum("BYTE"), "sequence_length": 64}
        said = self.train(self.job("packed", data=data)).stdout
        tokens = sum(len(f"document {i} says \u00e9\U0001f600 hello".encode()) for i in range(200))
        windows = -(-(tokens - 1) // 64)
        padding = f"{100 * (1 - tokens / (64 * windows)):.2f} % padding"
        self.assertIn(f" in 200 records, {windows} windows of 64, {padding}; ", said)
        said = self.train(self.job("apart", data={**data, "pack": False})).stdout
        self.assertRegex(said, r"200 windows of 64, 5\d\.\d\d % padding; ")
        said = self.train(self.job("body", data={**data, "json_field": "body"})).stdout
        self.assertIn("29 documents are empty and left out, the first at line 1", said)

    def test_a_bad_line_is_named_and_nothing_written(self):
        path = self.write("bad.jsonl", '{"text": "one"}\n{"text": 2}\n')
        refused = self.train(self.job(data={"files": [path], "tokenizer": Enum("BYTE")}), code=65)
        self.assertIn('bad.jsonl: line 2: "text" is a number, not a string', refused.stderr)
        self.assertFalse((self.folder / "run").exists())

    def test_a_tokenizer_fixes_the_vocabulary_and_leaves_with_the_model(self):
        tokenizer = TOKENIZERS / "llama2.json"
        data = {"files": [self.documents()], "tokenizer": Enum("BPE"), "tokenizer_file": str(tokenizer),
                "sequence_length": 64}
        said = self.train(self.job(data=data)).stdout
        self.assertRegex(said, r"data: \S+ tokens, 1\.\d+ bytes each, in 200 records")
        self.assertIn("bits/token", said)
        out = self.folder / "model"
        result = plasmid.run(["checkpoint", "export", self.folder / "run", "--to", out])
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(json.loads((out / "config.json").read_text())["vocab_size"], 600)
        self.assertEqual((out / "tokenizer.json").read_bytes(), tokenizer.read_bytes())

        found = {"files": data["files"], "tokenizer": Enum("BPE"), "sequence_length": 64}
        self.train(self.job("from", data=found, model={}), code=78)
        fields = {"run_directory": str(self.folder / "from"), "model": {"from": str(out)}, "data": found,
                  "optimizer": {"learning_rate": 1e-3}, "train": {"steps": 1}}
        path = self.write("from.textproto", plasmid.job_text(fields))
        self.train(path)
        self.assertEqual((self.folder / "from/tokenizer.json").read_bytes(), tokenizer.read_bytes())

    def test_a_run_keeps_its_tokenizer(self):
        data = {"files": [self.documents()], "tokenizer": Enum("BPE"), "sequence_length": 64}
        first, other = TOKENIZERS / "gpt2.json", TOKENIZERS / "gpt2_prefix.json"  # 420 tokens, both
        self.train(self.job(data={**data, "tokenizer_file": str(first)}))
        refused = self.train(self.job(steps=4, data={**data, "tokenizer_file": str(other)}), code=78)
        self.assertIn("data.tokenizer_file: digest", refused.stderr)

    def test_held_out_bits_are_told_per_byte_too(self):
        # A control character is a token of its own; each document's first token is no label.
        texts = [f"\x01document {i} of some, of uneven length" + " and more" * (i % 7) for i in range(30)]
        held_out = self.write("held_out.jsonl", "".join(json.dumps({"text": text}) + "\n" for text in texts))
        data = {"files": [self.documents()], "held_out_files": [str(held_out)], "tokenizer": Enum("BPE"),
                "tokenizer_file": str(TOKENIZERS / "gpt2.json"), "sequence_length": 64}
        said = self.train(self.job(data=data)).stdout
        row = [row for row in plasmid.metrics(self.folder / "run") if "held_out_loss" in row][-1]
        label_bytes = row["held_out_bits"] * row["held_out_labels"] / row["held_out_bits_per_byte"]
        self.assertAlmostEqual(label_bytes, sum(len(text) - 1 for text in texts), places=6)
        self.assertIn(f"{row['held_out_bits_per_byte']:.4f} bits/byte", said)

    def test_what_a_tokenizer_asks_for_in_vain_is_named(self):
        content = json.loads((TOKENIZERS / "gpt2.json").read_text())
        content["normalizer"] = {"type": "Lowercase"}
        tokenizer = self.write("tokenizer.json", json.dumps(content))
        refused = self.train(self.job(data={"files": [self.documents()], "tokenizer": Enum("BPE"),
                                            "tokenizer_file": tokenizer}), code=78)
        self.assertIn("tokenizer.json: normalizer: Lowercase is not supported", refused.stderr)
        self.assertFalse((self.folder / "run").exists())


class Command(DataTest):
    def command(self, *arguments, code=0):
        result = plasmid.run(["data", *arguments])
        self.assertEqual(result.returncode, code, result.stderr)
        self.assertEqual(len(plasmid.our_lines(result.stderr)), 1 if code else 0, result.stderr)
        return result.stderr if code else result.stdout

    def test_a_genome(self):
        said = self.command(PHAGE, "--length", 4096)
        self.assertIn("read as  NUCLEOTIDE\nrecords  1; shortest 48502, median 48502, longest 48502 tokens\n", said)
        self.assertIn("  C      11362 (23.43 %)\n", said)
        self.assertIn(f"windows  12 of 4096 tokens, {100 * (1 - 48502 / (12 * 4096)):.2f} % padding\n", said)
        self.assertIn("windows  12 of 4096 tokens, 0.00 % padding\n",
                      self.command(PHAGE, "--length", 4096, "--set", "data.circular=true"))

    def test_masked_letters_and_what_is_left_out(self):
        path = self.write("a.fa", ">one\nACgtN\n>two\n>three\nAC\n")
        said = self.command(path, "--set", "data.lower_case=MASK")
        self.assertIn("records  2; shortest 2, median 5, longest 5 tokens\n", said)
        self.assertIn("  masked 2 (28.57 %)\n", said)
        self.assertIn("1 record is empty and left out", said)

    def test_documents_and_tokens(self):
        path = self.documents()
        self.assertIn("read as  BYTE\nrecords  200; ", self.command(path))
        said = self.command(path, "--set", "data.tokenizer=BPE", "--set",
                            f"data.tokenizer_file={TOKENIZERS / 'gpt2.json'}")
        self.assertRegex(said, r"of the vocabulary's 420 occur; 1\.\d+ bytes each\n")

    def test_no_folder_for_a_cache(self):
        environment = {name: value for name, value in plasmid.environment().items() if name not in ("HOME", "XDG_CACHE_HOME")}
        environment["TMPDIR"] = str(self.folder / "absent")
        for name, content, code in (("t.txt", "some text", 0), ("t.jsonl", '{"text": "some text"}\n', 73)):
            path = self.write(name, content)
            result = subprocess.run([plasmid.PROGRAM, "data", path], env=environment, capture_output=True, text=True,
                                    timeout=120)
            self.assertEqual(result.returncode, code, result.stderr)
            self.assertIn("TMPDIR", result.stderr if code else result.stdout)
            self.assertEqual(len(plasmid.our_lines(result.stderr)), 1 if code else 0, result.stderr)

    def test_mistakes(self):
        self.assertIn("Example: plasmid data", self.command("--help"))
        self.command(code=64)
        self.command(PHAGE, "--length", "0", code=64)
        self.assertIn("train.steps", self.command(PHAGE, "--set", "train.steps=3", code=64))
        self.assertIn(f"windows  1 of {2**63 - 1} tokens, 100.00 % padding\n",
                      self.command(PHAGE, "--length", 2**63 - 1))
        several = self.write("several.jsonl", '{"text": "one"}\n' * 3)
        self.assertIn(f"data.sequence_length: {2**63 - 1} x 2 windows are above 2^63 tokens",
                      self.command(several, "--length", 2**63 - 1, "--set", "data.pack=false", code=78))
        for field, value in (("data.held_out_fraction", "0.1"), ("data.held_out_files", "none")):
            self.assertIn(field + ": has no effect here", self.command(PHAGE, "--set", f"{field}={value}", code=64))
        self.command(self.folder / "none.fa", code=66)
        self.assertIn("BYTE", self.command(PHAGE, "--set", "data.tokenizer=BYTE", "--set", "data.reverse_complement=true",
                                           code=78))


if __name__ == "__main__":
    unittest.main()
