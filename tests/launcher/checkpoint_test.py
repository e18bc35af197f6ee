"""Checkpoints of the built command: going on equals never stopping; damage is named and passed over; export."""

import ctypes
import ctypes.util
import gzip
import json
import resource
import shutil
import signal
import subprocess
import unittest

import plasmid_command as plasmid
from plasmid_command import Enum
from run_case import PHAGE, RunTest

RANKS = [None, 2] if plasmid.MPIEXEC else [None]
OTHER_RANKS = 1e-5  # relative, of each step's loss: another order of summation in float32


def xxh3_128(content):
    class Hash(ctypes.Structure):
        _fields_ = [("low", ctypes.c_uint64), ("high", ctypes.c_uint64)]

    name = ctypes.util.find_library("xxhash")
    if name is None:
        return None
    function = ctypes.CDLL(name).XXH3_128bits
    function.argtypes, function.restype = [ctypes.c_char_p, ctypes.c_size_t], Hash
    found = function(content, len(content))
    return f"{found.high:016x}{found.low:016x}"


class Resume(RunTest):
    def test_going_on_equals_never_stopping_to_the_bit(self):
        for ranks in RANKS:
            with self.subTest(ranks=ranks):
                whole, parts = f"whole{ranks}", f"parts{ranks}"
                self.train(self.job(whole, 6, ranks), ranks)
                self.train(self.job(parts, 3, ranks), ranks)
                result = self.train(self.job(parts, 6, ranks), ranks)
                self.assertIn("going on from", result.stdout)
                self.assertEqual(self.losses(parts), self.losses(whole))
                self.assertEqual(self.checkpoints(parts), ["step-3", "step-6"])
                for name in ("model.safetensors", "config.json"):
                    files = [self.folder / run / "checkpoints/step-6" / name for run in (whole, parts)]
                    self.assertEqual(files[0].read_bytes(), files[1].read_bytes())

    @unittest.skipUnless(plasmid.MPIEXEC, "built without MPI")
    def test_on_other_ranks_and_axes(self):
        self.train(self.job("whole", 6))
        self.train(self.job("parts", 2, 2), 2)
        self.train(self.job("parts", 4), None)
        self.train(self.job("parts", 6, mesh={"cp": 1, "dp": 2}), 2)
        for (one, _, _), (other, _, _) in zip(self.losses("whole"), self.losses("parts"), strict=True):
            self.assertAlmostEqual(other, one, delta=OTHER_RANKS * one)

    def test_shuffled_warmed_up_dropped_out_and_passed_in_parts(self):
        options = {"optimizer": {"schedule": Enum("COSINE"), "warmup_steps": 2}, "checkpoint": {"every": 2},
                   "model": {"dropout": 0.1}}
        self.train(self.job("whole", 6, **options))
        self.train(self.job("parts", 6, train={"max_seconds": 1e-9}, **options), code=75)
        self.assertEqual(self.checkpoints("parts"), ["step-1"])
        for _ in range(2):
            self.train(self.job("parts", 6, train={"max_seconds": 1e-9}, **options), code=75)
        self.train(self.job("parts", 6, **options))
        self.assertEqual(self.losses("parts"), self.losses("whole"))
        self.assertEqual(self.checkpoints("parts"), ["step-4", "step-6"])

    def test_a_finished_run_is_nothing_to_do(self):
        self.train(self.job())
        def content():
            return {path: path.read_bytes() for path in (self.folder / "run").rglob("*")
                    if path.is_file() and path.name != "exit.json"}

        before = content()
        for ranks in RANKS:
            again = self.train(self.job(ranks=ranks), ranks)
            self.assertIn("nothing to do", again.stdout)
        self.train(self.job(steps=2))
        self.assertEqual(content(), before)

    def test_never_refuses_a_run(self):
        self.train(self.job())
        result = self.train(self.job(steps=5), code=73, sets=["resume=NEVER"])
        self.assertIn("NEVER", result.stderr)

    def test_rows_beyond_the_checkpoint_are_replaced(self):
        self.train(self.job("whole", 4))
        self.train(self.job(steps=2))
        metrics = self.folder / "run/metrics.jsonl"
        with open(metrics, "a") as rows:
            rows.write('{"step":3,"tokens":1,"loss":99}\n{"step":4,"held_out_loss":99}\n{"step":5,"lo')
        self.train(self.job(steps=4))
        self.assertEqual(self.losses(), self.losses("whole"))

    def test_a_run_killed_before_its_first_checkpoint_starts_over(self):
        self.train(self.job("whole"))
        shutil.copytree(self.folder / "whole", self.folder / "run")
        shutil.rmtree(self.folder / "run/checkpoints/step-3")
        result = self.train(self.job())
        self.assertIn("no checkpoint yet", result.stdout)
        self.assertEqual(self.losses(), self.losses("whole"))

    def test_what_contradicts_the_checkpoint_is_refused(self):
        self.train(self.job())
        other = self.folder / "other.txt"
        other.write_text("ACGT" * 5000)
        before = self.checkpoints()
        for sets, words in ((["model.width=64"], "model.width: 64 in this job, 32 in"),
                            (["model.family=LLAMA"], "model.family: LLAMA in this job, GPT2 in"),
                            (["train.seed=2"], "train.seed: 2 in this job, 1 in"),
                            (["train.batch=4"], "train.batch: 4 in this job, 2 in"),
                            (["data.order=SEQUENTIAL"], "data.order: SEQUENTIAL in this job, SHUFFLED in"),
                            ([f"data.files={other}"], "data.files: tokens in all: 20000 in this job, 48502 in")):
            for ranks in RANKS:
                with self.subTest(sets=sets, ranks=ranks):
                    result = self.train(self.job(steps=5, ranks=ranks), ranks, 78, sets)
                    self.assertIn(words, result.stderr)
                    self.assertIn("step-3", result.stderr)
        self.assertEqual(self.checkpoints(), before)
        self.assertEqual(len(self.rows()), 3)

    def test_the_same_amount_of_other_data_is_refused(self):
        data = self.folder / "data.txt"
        text = b"GATTACAT" * 3000
        data.write_bytes(text)
        self.train(self.job(), sets=[f"data.files={data}"])
        data.write_bytes(text[:9999] + b"C" + text[10000:])
        for ranks in RANKS:
            result = self.train(self.job(steps=5, ranks=ranks), ranks, 78, [f"data.files={data}"])
            self.assertIn("data.files: content: ", result.stderr)
        # Packed, or cut into lines, they are the same.
        lines = self.folder / "lines.fa.gz"
        lines.write_bytes(gzip.compress(b">x\n" + b"\n".join(text[i:i + 60] for i in range(0, len(text), 60))))
        self.train(self.job(steps=5), sets=[f"data.files={lines}"])

    def test_another_model_to_start_from_is_refused(self):
        self.train(self.job("first"))
        self.train(self.job("second", 5))
        model = self.folder / "model"
        for source, code in (("first/checkpoints/step-3", 0), ("second/checkpoints/step-5", 78)):
            shutil.rmtree(model, ignore_errors=True)
            shutil.copytree(self.folder / source, model)
            result = self.train(self.job(steps=5 if code else 2, model={"from": str(model)}), code=code)
        self.assertIn("model.from: content: ", result.stderr)
        shutil.rmtree(model)
        moved = self.folder / "moved"
        shutil.copytree(self.folder / "first/checkpoints/step-3", moved)
        self.train(self.job(steps=3, model={"from": str(moved)}))
        self.train(self.job(steps=4))

    def test_rates_and_passes_may_change(self):
        self.train(self.job())
        self.train(self.job(steps=4), sets=["optimizer.learning_rate=1e-3", "train.micro_batch=2", "train.recompute=ALL"])
        self.assertEqual(self.rows()[3]["learning_rate"], 1e-3)


class Damage(RunTest):
    def test_the_one_before_is_used_and_the_damaged_one_named(self):
        for ranks in RANKS:
            with self.subTest(ranks=ranks):
                whole, run = f"whole{ranks}", f"run{ranks}"
                self.train(self.job(whole, 6, ranks), ranks)
                self.train(self.job(run, 4, ranks, checkpoint={"every": 2}), ranks)
                self.flip(self.folder / run / "checkpoints/step-4/model.safetensors")
                result = self.train(self.job(run, 6, ranks), ranks)
                told = [line for line in result.stdout.splitlines() if "damaged" in line]
                self.assertEqual(len(told), 1, result.stdout)
                self.assertIn("step-4/model.safetensors", told[0])
                self.assertIn("going on from step 2", told[0])
                self.assertEqual(self.losses(run), self.losses(whole))
                self.assertEqual(self.checkpoints(run), ["step-2", "step-4.aside", "step-6"])

    def test_a_damaged_end_is_trained_again(self):
        self.train(self.job(checkpoint={"every": 2}))
        losses = self.losses()
        (self.folder / "run/checkpoints/step-3/manifest.json").unlink()
        self.train(self.job())
        self.assertEqual(self.losses(), losses)
        self.assertEqual(self.checkpoints(), ["step-2", "step-3", "step-3.aside"])
        self.assertEqual(plasmid.run(["checkpoint", "verify", self.folder / "run"]).returncode, 0)

    def test_a_run_is_not_started_over_when_all_are_damaged(self):
        self.train(self.job())
        self.flip(self.folder / "run/checkpoints/step-3/manifest.json", 20)
        for ranks in RANKS:
            result = self.train(self.job(steps=5, ranks=ranks), ranks, 65)
            self.assertIn("no checkpoint is good", result.stderr)
        self.assertEqual(len(self.rows()), 3)


class FullDisk(RunTest):
    def test_the_run_goes_on_and_the_old_checkpoint_stays(self):
        large = {"model": {"width": 512}}
        limit = 16 << 20  # holds what Open MPI maps, not the weights
        self.train(self.job("whole", 6, **large))
        self.train(self.job(steps=2, **large))

        def short_files():
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))

        job = self.job(steps=6, checkpoint={"every": 2}, **large)
        result = subprocess.run(plasmid.command_line(["train", job]), env=plasmid.environment(), capture_output=True,
                                text=True, timeout=plasmid.TIMEOUT, preexec_fn=short_files)
        self.assertEqual(result.returncode, 74, result.stderr)
        told = [line for line in result.stdout.splitlines() if "failed" in line and "step 4" in line]
        self.assertEqual(len(told), 1, result.stdout)
        self.assertIn("File too large", told[0])
        self.assertEqual(len(plasmid.our_lines(result.stderr)), 1, result.stderr)
        self.assertIn("can go on from step 2", plasmid.exit_record(self.folder / "run")["reason"])
        self.assertEqual(self.checkpoints(), ["step-2"])
        self.assertEqual(self.losses(), self.losses("whole"))
        self.train(job)
        self.assertEqual(self.losses(), self.losses("whole"))
        self.assertEqual(self.checkpoints(), ["step-4", "step-6"])

    def test_free_space_is_asked_for_before_anything_is_written(self):
        mount = self.folder / "small"
        mount.mkdir()
        made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", mount], capture_output=True, text=True)
        if made.returncode != 0:
            self.skipTest(f"no small file system to be had: {made.stderr.strip()}")
        self.addCleanup(subprocess.run, ["umount", mount], check=True)
        job = self.job(steps=3, model={"width": 64})
        result = plasmid.run(["train", job, "--set", f"run_directory={mount / 'run'}"])
        self.assertEqual(result.returncode, 74, result.stderr)
        self.assertRegex(result.stderr, r"\d+ bytes are needed, \d+ are free")
        self.assertEqual(list((mount / "run/checkpoints").iterdir()), [])


class Signals(RunTest):
    def stop(self, which, ranks, name):
        job = self.job(name, 10**6, ranks)
        process = plasmid.start(["train", job], ranks)
        plasmid.wait_for_step(process, 1)
        process.send_signal(which)
        process.communicate(timeout=plasmid.TIMEOUT)
        return process.returncode, plasmid.exit_record(self.folder / name)

    def test_stopped_and_gone_on_with(self):
        for which, code, retry in ((signal.SIGTERM, 75, True), (signal.SIGUSR1, 75, True), (signal.SIGINT, 130, False)):
            with self.subTest(signal=which):
                name = which.name
                returned, record = self.stop(which, None, name)
                self.assertEqual((returned, record["code"], record["retry"]), (code, code, retry))
                reached = len(self.rows(name))
                self.assertEqual(self.checkpoints(name), [f"step-{reached}"])
                self.train(self.job(name, reached + 2))
                self.assertEqual(len(self.losses(name)), reached + 2)


class Command(RunTest):
    def command(self, *arguments, code=0):
        result = plasmid.run(["checkpoint", *arguments])
        self.assertEqual(result.returncode, code, result.stderr)
        self.assertEqual(len(plasmid.our_lines(result.stderr)), 1 if code and not result.stdout else 0, result.stderr)
        return result.stdout.splitlines()

    def test_help_shows_examples(self):
        for part in ([], ["list"], ["verify"], ["export"]):
            self.assertIn("Example: plasmid checkpoint", "\n".join(self.command(*part, "--help")))

    def test_list_and_verify(self):
        self.train(self.job(checkpoint={"every": 2}))
        run = self.folder / "run"
        listed = self.command("list", run)
        self.assertEqual([line.split(":")[0] for line in listed], ["step-2", "step-3"])
        self.assertIn("1200 tokens", listed[1])
        self.assertIn("dp 1 x cp 1 x tp 1", listed[1])
        verified = self.command("verify", run)
        self.assertTrue(all(": good, " in line for line in verified), verified)
        self.flip(run / "checkpoints/step-2/optimizer-00000-of-00001.safetensors")
        verified = self.command("verify", run, code=65)
        self.assertIn("step-2: damaged: ", verified[0])
        self.assertIn("optimizer-00000-of-00001.safetensors", verified[0])
        self.assertIn("step-3: good", verified[1])

    def test_where_there_is_nothing(self):
        for part in (["list"], ["verify"], ["export", "--to", self.folder / "out"]):
            self.command(part[0], self.folder / "absent", *part[1:], code=66)
            self.command(part[0], self.folder, *part[1:], code=66)
        self.command("export", self.folder, code=64)

    def test_export(self):
        self.train(self.job(checkpoint={"every": 2}))
        run, out = self.folder / "run", self.folder / "a/model"
        self.command("export", run, "--to", out)
        self.assertEqual(sorted(path.name for path in out.iterdir()), ["config.json", "model.safetensors"])
        for path in out.iterdir():
            self.assertEqual(path.read_bytes(), (run / "checkpoints/step-3" / path.name).read_bytes())
        self.command("export", run, "--to", out, code=73)
        self.command("export", run, "--to", self.folder / "second", "--step", "2")
        self.assertNotEqual((self.folder / "second/model.safetensors").read_bytes(),
                            (out / "model.safetensors").read_bytes())
        self.command("export", run, "--to", self.folder / "third", "--step", "9", code=66)
        self.assertFalse((self.folder / "third").exists())
        self.flip(run / "checkpoints/step-3/model.safetensors")
        self.assertIn("step 2", self.command("export", run, "--to", self.folder / "fourth")[0])
        self.assertFalse([path for path in self.folder.iterdir() if path.name.endswith(".partial")])

    def test_a_window_of_attention_is_exported_where_transformers_has_it(self):
        window = ["attention.window_left=5"]
        for family in ("LLAMA", "GPT2"):
            self.train(self.job(family, model={"family": Enum(family)}), sets=window)
        out = self.folder / "out"
        self.command("export", self.folder / "LLAMA", "--to", out)
        config = json.loads((out / "config.json").read_text())
        self.assertEqual((config["model_type"], config["architectures"], config["sliding_window"]),
                         ("mistral", ["MistralForCausalLM"], 6))
        result = plasmid.run(["checkpoint", "export", self.folder / "GPT2", "--to", self.folder / "none"])
        self.assertEqual(result.returncode, 78, result.stderr)
        self.assertIn("attention.window_left: 5 in ", result.stderr)
        self.assertFalse((self.folder / "none").exists())
        # What is exported goes on here with its window, and the job may not say another.
        fields = {"run_directory": str(self.folder / "next"), "model": {"from": str(out)},
                  "data": {"files": [str(PHAGE)], "tokenizer": Enum("NUCLEOTIDE"), "sequence_length": 200},
                  "optimizer": {"learning_rate": 0}, "train": {"steps": 4, "batch": 2}}
        path = self.folder / "next.textproto"
        path.write_text(plasmid.job_text(fields))
        self.assertIn("7 contradicts 5", self.train(path, code=78, sets=["attention.window_left=7"]).stderr)
        self.train(path)
        self.train(self.job("LLAMA", 4, model={"family": Enum("LLAMA")}), sets=window)
        self.assertEqual(self.rows("next")[3]["loss"], self.rows("LLAMA")[3]["loss"])

    def test_a_window_that_hides_nothing_is_none(self):
        self.train(self.job(), sets=["attention.window_left=199"])
        self.command("export", self.folder / "run", "--to", self.folder / "out")

    def test_export_into_what_is_there_and_empty(self):
        self.train(self.job())
        run, model = self.folder / "run", ["config.json", "model.safetensors"]
        here = self.folder / "here"
        here.mkdir()
        inode = here.stat().st_ino
        for to in (".", "./", str(here) + "/", "../here/."):
            with self.subTest(to=to):
                result = plasmid.run(["checkpoint", "export", run, "--to", to], cwd=here)
                self.assertEqual(result.returncode, 0, result.stderr)
                self.assertEqual(sorted(path.name for path in here.iterdir()), model)
                self.assertEqual(here.stat().st_ino, inode)  # a shell that stands there still does
                for path in here.iterdir():
                    path.unlink()
        (here / "notes").write_text("")
        self.command("export", run, "--to", here, code=73)
        self.assertEqual([path.name for path in here.iterdir()], ["notes"])
        self.command("export", run, "--to", here / "notes", code=73)
        self.command("export", run, "--to", here / "notes/below", code=73)

    def test_export_into_a_mount_point(self):
        self.train(self.job())
        for size, code in (("10m", 0), ("32k", 74)):
            mount = self.folder / f"mount{size}"
            mount.mkdir()
            made = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", mount], capture_output=True,
                                  text=True)
            if made.returncode != 0:
                self.skipTest(f"no file system to be had: {made.stderr.strip()}")
            self.addCleanup(subprocess.run, ["umount", mount], check=True)
            self.command("export", self.folder / "run", "--to", mount, code=code)
            self.assertEqual(sorted(path.name for path in mount.iterdir()),
                             [] if code else ["config.json", "model.safetensors"])

    def test_what_is_not_known_is_not_called_damaged(self):
        self.train(self.job(checkpoint={"every": 2}))
        run = self.folder / "run"
        newer = run / "checkpoints/step-3"
        text = '{"format_version": "2", "step": "3", "planes": [1]}'
        (newer / "manifest.json").write_text(text)
        digest = xxh3_128(text.encode())
        if digest is None:
            self.skipTest("no xxHash library to seal a manifest with")
        (newer / "manifest.xxh128").write_text(digest + "  manifest.json\n")
        listed = self.command("verify", run, code=78)
        self.assertIn("step-2: good", listed[0])
        self.assertIn("step-3: not known: ", listed[1])
        self.command("export", run, "--to", self.folder / "out", code=78)
        self.assertFalse((self.folder / "out").exists())
        self.command("export", run, "--to", self.folder / "out", "--step", "2")
        for ranks in RANKS:
            result = self.train(self.job(steps=5, ranks=ranks), ranks, 78)
            self.assertIn("has format 2; this version reads 1", result.stderr)
        self.assertEqual(self.checkpoints(), ["step-2", "step-3"])

    def test_an_export_is_a_model_to_start_from(self):
        self.train(self.job())
        out = self.folder / "model"
        self.command("export", self.folder / "run", "--to", out)
        fields = {"run_directory": str(self.folder / "next"), "model": {"from": str(out)},
                  "data": {"files": [str(PHAGE)], "tokenizer": Enum("NUCLEOTIDE"), "sequence_length": 200},
                  "optimizer": {"learning_rate": 0}, "train": {"steps": 4, "batch": 2}}
        path = self.folder / "next.textproto"
        path.write_text(plasmid.job_text(fields))
        self.train(path)
        self.train(self.job(steps=4))
        self.assertEqual(self.rows("next")[3]["loss"], self.rows()[3]["loss"])


if __name__ == "__main__":
    unittest.main(verbosity=2)
