"""Bad input ends every rank before training with one line of ours and a code of sysexits.h, and leaves nothing behind;
odd but sound input trains."""

import gzip
import json
import os
import struct
import sys
import unittest

import plasmid_command as plasmid
from plasmid_command import Enum
from run_case import RunTest

RANKS = 2 if plasmid.MPIEXEC else None
JUNK = bytes((i * i * 37 + 11) % 256 for i in range(4096))
FASTA = b">one\n" + b"ACGTACGTAC\n" * 300


class BadInput(RunTest):
    def setUp(self):
        super().setUp()
        self.good = self.folder / "good.fa"
        self.good.write_bytes(FASTA)

    def job(self, name="run", steps=2, **groups):
        groups["data"] = {"files": [str(self.good)], "sequence_length": 64, **groups.get("data", {})}
        return super().job(name, steps, RANKS, **groups)

    def written(self):
        return sorted(str(path.relative_to(self.folder)) for path in self.folder.rglob("*"))

    def refused(self, what, job, code, *words, sets=()):
        with self.subTest(what=what):
            before = self.written()
            result = self.train(job, RANKS, code, sets)
            for word in words:
                self.assertIn(word, result.stderr)
            self.assertEqual(result.stdout, "")
            self.assertEqual(self.written(), before)


class Data(BadInput):
    def test_files_that_hold_no_data(self):
        packed = gzip.compress(FASTA * 50)
        middle = len(packed) // 2
        flipped = packed[:middle] + bytes([packed[middle] ^ 64]) + packed[middle + 1:]
        for name, content, words in (
                ("junk.fa", JUNK, ["junk.fa"]),
                ("header_then_junk.fa", b">one\n" + JUNK, ["header_then_junk.fa"]),
                ("nul.fa", FASTA + b"ACGT\0ACGT\n", ["nul.fa", "302"]),
                ("no_header.fa", b"ACGT" * 100, ["no_header.fa"]),
                ("headers.fa", b">a\n>b\n>c\n", ["headers.fa"]),
                ("blank.fa", b"\n\n \n", ["blank.fa"]),
                ("digit.fa", FASTA + b">two\nACGT7ACGT\n", ["digit.fa", "303"]),
                ("cut.fa.gz", packed[:middle], ["cut.fa.gz: truncated gzip after 0 unpacked bytes: unexpected"]),
                ("cut_header.fa.gz", packed[:5], ["cut_header.fa.gz"]),
                ("flipped.fa.gz", flipped, ["flipped.fa.gz"]),
                ("wrong_sum.fa.gz", packed[:-6] + b"\1\2" + packed[-4:], ["wrong_sum.fa.gz"]),
                ("not_packed.fa.gz", FASTA, ["not_packed.fa.gz"]),
                ("packed_junk.fa.gz", gzip.compress(JUNK), ["packed_junk.fa.gz"]),
                ("empty.fa", b"", ["empty.fa"]),
                ("empty.fa.gz", gzip.compress(b""), ["empty.fa.gz"]),
                ("junk.txt", JUNK, ["junk.txt"]),
                ("one.txt", b"A", ["1 token"])):
            path = self.folder / name
            path.write_bytes(content)
            self.refused(name, self.job(), 65, *words, sets=[f"data.files={path}"])

    def test_paths_that_are_no_files(self):
        os.mkfifo(self.folder / "pipe.fa")
        (self.folder / "loop.fa").symlink_to(self.folder / "loop.fa")
        for name in ("absent.fa", "pipe.fa", "loop.fa", ".", "good.fa/below", "a" * 300):
            self.refused(name, self.job(), 66, name, sets=[f"data.files={self.folder / name}"])


def safetensors(header, data=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(shape, begin, end, dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


class Model(BadInput):
    CONFIG = {"model_type": "gpt2", "n_layer": 1, "n_embd": 4, "n_head": 1, "n_positions": 64, "vocab_size": 5}

    def setUp(self):
        super().setUp()
        self.model = self.folder / "model"
        self.model.mkdir()
        self.write(self.CONFIG, safetensors({}))

    def write(self, config=None, weights=None):
        if config is not None:
            (self.model / "config.json").write_bytes(config if isinstance(config, bytes) else json.dumps(config).encode())
        if weights is not None:
            (self.model / "model.safetensors").write_bytes(weights)

    def job(self, **groups):
        path = super().job(**groups)
        text = path.read_text().replace('model { family: GPT2 layers: 2 width: 32 heads: 2 }',
                                        f'model {{ from: "{self.model}" }}')
        path.write_text(text)
        return path

    def test_hostile_weights(self):
        name = "transformer.wte.weight"
        for what, content in (
                ("no bytes", b""), ("half a length", b"\1\0\0"), ("junk", JUNK),
                ("a length beyond the file", safetensors({}, length=1 << 40)),
                ("a length that overflows", safetensors({}, length=(1 << 64) - 1)),
                ("no JSON", safetensors(b"{]")), ("a list", safetensors([])), ("NUL bytes", safetensors(b"\0" * 64)),
                ("deep JSON", safetensors(b"[" * 200000)),
                ("deep metadata", safetensors(b'{"__metadata__":' + b"{\"a\":" * 100000 + b"1" + b"}" * 100000 + b"}")),
                ("overlap", safetensors({name: entry([5, 4], 0, 80), "b": entry([5, 4], 40, 120)}, bytes(120))),
                ("a hole", safetensors({name: entry([5, 4], 0, 80), "b": entry([1], 84, 88)}, bytes(88))),
                ("data that are missing", safetensors({name: entry([5, 4], 0, 80)}, bytes(79))),
                ("data too many", safetensors({name: entry([5, 4], 0, 80)}, bytes(81))),
                ("a shape that overflows", safetensors({name: entry([1 << 62, 8], 0, 80)}, bytes(80))),
                ("a negative extent", safetensors({name: entry([-5, -4], 0, 80)}, bytes(80))),
                ("offsets that go back", safetensors({name: entry([5, 4], 80, 0)}, bytes(80))),
                ("a fraction", safetensors({name: entry([5.5, 4], 0, 80)}, bytes(80))),
                ("a name twice", safetensors(b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},'
                                             b'"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}', bytes(8))),
                ("an unknown dtype", safetensors({name: entry([5, 4], 0, 80, "F33")}, bytes(80))),
                ("another shape", safetensors({name: entry([4, 5], 0, 80)}, bytes(80))),
                ("no tensors", safetensors({}))):
            self.write(weights=content)
            self.refused(what, self.job(), 65, str(self.model / "model.safetensors"))

    def test_hostile_configurations(self):
        for what, config in (("junk", JUNK), ("a list", b"[]"), ("deep", b'{"a":' * 100000),
                             ("no bytes", b""), ("another kind", {"model_type": "mamba"}),
                             ("text for a number", {**self.CONFIG, "n_layer": "3"}),
                             ("below one", {**self.CONFIG, "n_embd": -4}),
                             ("above all", {**self.CONFIG, "n_embd": 1 << 62}),
                             ("not divided", {**self.CONFIG, "n_head": 3}),
                             ("another activation", {**self.CONFIG, "activation_function": "relu"})):
            self.write(config=config)
            self.refused(what, self.job(), 65, str(self.model / "config.json"))

    def test_a_directory_that_contradicts_the_job(self):
        for assignment in ("model.layers=2", "model.width=8", "model.family=LLAMA", "model.vocabulary=256",
                           "model.tied_head=false", "model.positions=128", "model.heads=2"):
            self.refused(assignment, self.job(), 78, "contradicts", str(self.model), sets=[assignment])

    def test_directories_that_are_none(self):
        for path in (self.folder / "absent", self.good, self.folder):
            self.refused(path, self.job(), 66, str(path), sets=[f"model.from={path}"])
        (self.model / "model.safetensors").unlink()
        self.refused("no weights", self.job(), 66, "neither model.safetensors nor")


class Jobs(BadInput):
    def test_numbers(self):
        for assignment, words in (("train.steps=-1", "-1 is below 1"), ("train.steps=0", "0 is below 1"),
                                  ("train.batch=-2", "-2 is below 1"), ("model.layers=-1", "-1 is below 1"),
                                  ("checkpoint.keep=0", "0 is below 1"), ("train.seed=-1", "-1 is below 0"),
                                  ("data.sequence_length=1000000000000000000", "data.sequence_length"),
                                  ("train.steps=1000000000000000000", "above 2^63 - 1"),
                                  ("train.batch=1000000000000000000", "above 2^63 - 1"),
                                  ("train.steps=99999999999999999999", "in range"), ("train.steps=1e3", "whole number"),
                                  ("train.steps=", "whole number"), ("train.steps=three", "whole number"),
                                  ("optimizer.learning_rate=nan", "learning_rate"),
                                  ("optimizer.learning_rate=inf", "learning_rate"),
                                  ("optimizer.learning_rate=-1e-3", "learning_rate"),
                                  ("optimizer.beta1=1", "beta1"), ("train.max_seconds=-1", "max_seconds"),
                                  ("data.tokenizer=DNA", "one of BYTE, NUCLEOTIDE"),
                                  ("model.width=1000000000000", "above"), ("data.files=", "data.files"),
                                  ("run_directory=", "run_directory")):
            self.refused(assignment, self.job(), 78, words, sets=[assignment])

    def test_texts(self):
        whole = self.job().read_text()
        for what, text, words in (("a field twice", whole + "resume: AUTO\nresume: NEVER\n", "resume: given twice"),
                                  ("a nested field twice", whole.replace("steps: 2", "steps: 2 steps: 3"),
                                   "train.steps: given twice"),
                                  ("an unknown field", whole + "stepz: 3\n", "stepz: no such field"),
                                  ("an open group", whole + "train {", ":"), ("NUL bytes", whole + "\0\0", ":"),
                                  ("nothing", "", "run_directory: not given"), ("JSON cut short", '{"train":', ":"),
                                  ("JSON with a field twice", '{"train":{"steps":1,"steps":2}}', "train.steps: given twice"),
                                  ("deep JSON", '{"a":' * 100000 + "1" + "}" * 100000, "nested more than 32 deep"),
                                  ("a deep JSON list", '{"train":' + "[" * 1000000 + "]" * 1000000 + "}",
                                   "nested more than 32 deep"), ("deep text", "model {" * 100000, ":"),
                                  ("a JSON list", '{"train":[1]}', "train")):
            path = self.job()
            path.write_text(text)
            self.refused(what, path, 78, words)
        path.write_bytes(JUNK)
        self.refused("junk", path, 78, str(path))

    def test_a_job_that_is_no_file(self):
        for path in (self.folder, self.folder / "absent"):
            self.refused(path, path, 66, str(path))

    def test_a_run_directory_of_a_name_too_long(self):
        self.refused("long", self.job(), 73, "run_directory", sets=[f"run_directory={self.folder / ('a' * 300)}"])


class Accepted(BadInput):
    def rows_of(self, name, content, tokenizer="NUCLEOTIDE"):
        path = self.folder / name
        path.write_bytes(content)
        job = self.job(name + ".run", data={"files": [str(path)], "tokenizer": Enum(tokenizer)})
        result = self.train(job, RANKS)
        return [row["loss"] for row in plasmid.metrics(self.folder / (name + ".run"))], result.stdout

    def test_forms_of_the_same_sequence(self):
        expected, _ = self.rows_of("plain.fa", FASTA)
        letters = b"ACGTACGTAC" * 300
        for name, content in (("crlf.fa", FASTA.replace(b"\n", b"\r\n")), ("no_end.fa", FASTA.rstrip(b"\n")),
                              ("one_line.fa", b">one\n" + letters), ("rna.fa", FASTA.replace(b"T", b"U")),
                              ("lower.fa", FASTA.replace(b"ACGTACGTAC", b"acgtacgtac")),
                              ("packed.fa.gz", gzip.compress(FASTA)),
                              ("two_members.fa.gz", gzip.compress(FASTA[:999]) + gzip.compress(FASTA[999:]))):
            with self.subTest(name=name):
                self.assertEqual(self.rows_of(name, content)[0], expected)

    def test_other_codes_read_as_n(self):
        expected, _ = self.rows_of("n.fa", FASTA.replace(b"GT", b"NN"))
        codes = b"RYKMSWBDHV"
        text = bytes(codes[i % 10] if c in b"GT" else c for i, c in enumerate(FASTA[5:]))
        self.assertEqual(self.rows_of("codes.fa", FASTA[:5] + text)[0], expected)

    def test_an_empty_record_is_said_and_left_out(self):
        expected, _ = self.rows_of("plain.fa", FASTA)
        losses, said = self.rows_of("hollow.fa", b">first\n>second\n" + FASTA + b">last\n")
        self.assertEqual(losses, expected)
        self.assertTrue(any("first" in line and line.startswith("data: ") for line in said.splitlines()), said)

    def test_a_line_of_100_megabytes(self):
        line = b"GATTACA" * (100_000_000 // 7)
        losses, said = self.rows_of("long.fa", b">long\n" + line + b"\n")
        self.assertEqual(len(losses), 2)
        self.assertIn("100.0M tokens", said)


if __name__ == "__main__":
    sys.exit(unittest.main(verbosity=2))
