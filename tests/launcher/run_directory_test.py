"""The run directory as scripts and schedulers see it: exit.json tells of the last command, one process writes at a
time, and what cannot be reached or was not written by a run is refused before anything changes."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import unittest

import plasmid_command as plasmid
from run_case import RunTest

STALE = {"code": 75, "reason": "asked to stop by a signal after step 1 of 5", "retry": True}
NOBODY = 65534


class RecordTest(RunTest):
    def setUp(self):
        super().setUp()
        self.run_folder = self.folder / "run"

    def leave_stale(self):
        (self.run_folder / "exit.json").write_text(json.dumps(STALE))

    def recorded(self, code, words):
        record = plasmid.exit_record(self.run_folder)
        self.assertEqual((record["code"], record["retry"]), (code, False))
        self.assertIn(words, record["reason"])
        self.assertNotIn("\n", record["reason"])


class ExitRecord(RecordTest):
    def test_a_refusal_replaces_an_older_word(self):
        self.train(self.job())
        ranks = 2 if plasmid.MPIEXEC else None
        for sets, code, words in ((["model.width=33"], 78, "model.heads"),
                                  (["train.seed=2"], 78, "train.seed: 2 in this job"),
                                  (["data.files=/no/such.fa"], 66, "no such file"),
                                  (["resume=NEVER"], 73, "resume is NEVER"),
                                  (["mesh.dp=3"], 78, "mesh")):
            with self.subTest(sets=sets):
                self.leave_stale()
                self.train(self.job(steps=5, ranks=ranks), ranks, code, sets)
                self.recorded(code, words)
        self.assertEqual(len(self.rows()), 3)

    def test_nothing_to_do_is_recorded(self):
        self.train(self.job())
        self.leave_stale()
        self.train(self.job())
        self.recorded(0, "nothing to do")

    def test_no_good_checkpoint_is_recorded(self):
        self.train(self.job())
        self.leave_stale()
        self.flip(self.run_folder / "checkpoints/step-3/model.safetensors")
        self.train(self.job(steps=5), code=65)
        self.recorded(65, "no checkpoint is good")

    def test_a_job_that_cannot_be_read_knows_no_directory(self):
        self.train(self.job())
        self.leave_stale()
        path = self.job(steps=5)
        path.write_text(path.read_text() + "stepz: 3\n")
        self.train(path, code=78)
        self.assertEqual(plasmid.exit_record(self.run_folder), STALE)

    def test_a_run_under_way_has_none(self):
        job = self.job(steps=10**6)
        process = plasmid.start(["train", job])
        plasmid.wait_for_step(process, 1)
        self.assertFalse((self.run_folder / "exit.json").exists())
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=plasmid.TIMEOUT)
        record = plasmid.exit_record(self.run_folder)
        self.assertEqual((record["code"], record["retry"]), (75, True))

    def test_tasks_that_mpi_does_not_see_are_refused_in_one_line(self):
        if not plasmid.MPIEXEC:
            self.skipTest("built without MPI")
        job = self.job()
        step = {"SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "2", "SLURM_NTASKS": "2"}
        for there in (False, True):
            processes = [subprocess.Popen(plasmid.command_line(["train", job]), stdout=subprocess.PIPE,
                                          stderr=subprocess.PIPE, text=True,
                                          env={**plasmid.environment(), **step, "SLURM_PROCID": str(task)})
                         for task in range(2)]
            said = [process.communicate(timeout=plasmid.TIMEOUT) for process in processes]
            self.assertEqual([process.returncode for process in processes], [78, 78], said)
            self.assertEqual([len(plasmid.our_lines(stderr)) for _, stderr in said], [1, 0], said)
            self.assertIn("srun --mpi=pmix", said[0][1])
            if there:
                self.recorded(78, "srun --mpi=pmix")
            else:
                self.assertFalse(self.run_folder.exists())
                self.train(job)
                self.leave_stale()
        # A batch script in an allocation of two tasks starts one process without a launcher.
        alone = {**plasmid.environment(), "SLURM_NTASKS": "2", "SLURM_PROCID": "0"}
        result = subprocess.run(plasmid.command_line(["train", job]), env=alone, capture_output=True, text=True,
                                timeout=plasmid.TIMEOUT)
        self.assertEqual(result.returncode, 0, result.stderr)


@unittest.skipUnless(plasmid.MPIEXEC, "built without MPI")
class OneRankAlone(RecordTest):
    """Rank 1 reads its own copy of the data, and that one goes bad."""

    def setUp(self):
        super().setUp()
        self.places = [self.folder / name for name in ("a", "b")]
        for place in self.places:
            place.mkdir()
            (place / "data.txt").write_text("ACGT" * 20000)

    def launch(self, job):
        command = []
        for place in self.places:
            command += ([":", "-n"] if command else plasmid.MPIEXEC) + ["1", "-wdir", str(place), str(plasmid.PROGRAM),
                                                                      "train", str(job)]
        return subprocess.Popen(command, env=plasmid.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                text=True)

    def test_fails_in_a_step(self):
        job = self.job(steps=10**6, ranks=2, data={"files": ["data.txt"], "tokenizer": plasmid.Enum("BYTE")})
        process = self.launch(job)
        plasmid.wait_for_step(process, 1)
        os.truncate(self.places[1] / "data.txt", 0)
        _, stderr = process.communicate(timeout=plasmid.TIMEOUT)
        self.assertNotEqual(process.returncode, 0)
        self.assertEqual(len(plasmid.our_lines(stderr)), 1, stderr)
        self.recorded(65, "rank 1: data.txt")

    def test_refuses_before_the_first_step(self):
        files = {"files": ["data.txt"], "tokenizer": plasmid.Enum("BYTE")}
        process = self.launch(self.job(ranks=2, data=files))
        self.assertEqual(process.wait(timeout=plasmid.TIMEOUT), 0, process.communicate())
        self.leave_stale()
        (self.places[1] / "data.txt").unlink()
        process = self.launch(self.job(steps=5, ranks=2, data=files))
        _, stderr = process.communicate(timeout=plasmid.TIMEOUT)
        self.assertEqual(process.returncode, 66, stderr)
        self.assertEqual(len(plasmid.our_lines(stderr)), 1, stderr)
        self.recorded(66, "data.txt")


class Lock(RunTest):
    def test_a_second_process_is_refused_and_changes_nothing(self):
        process = plasmid.start(["train", self.job(steps=10**6)])
        plasmid.wait_for_step(process, 1)
        before = (self.folder / "run/job.textproto").read_bytes()
        for ranks in (None, 2) if plasmid.MPIEXEC else (None,):
            result = self.train(self.job(steps=5, ranks=ranks), ranks, 73)
            self.assertIn(f"run_directory: {self.folder / 'run'} is in use by process {process.pid} on host "
                          f"{os.uname().nodename}", result.stderr)
        self.assertEqual((self.folder / "run/job.textproto").read_bytes(), before)
        self.assertFalse((self.folder / "run/exit.json").exists())
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=plasmid.TIMEOUT)
        self.assertEqual(process.returncode, 75)
        reached = len(self.rows())
        self.train(self.job(steps=reached + 1))
        self.assertEqual(len(self.losses()), reached + 1)

    def test_a_killed_holder_holds_nothing(self):
        process = plasmid.start(["train", self.job(steps=10**6)])
        plasmid.wait_for_step(process, 1)
        process.kill()
        process.communicate()
        self.train(self.job())

    def test_checkpoints_are_read_beside_a_running_job(self):
        process = plasmid.start(["train", self.job(steps=10**6, checkpoint={"every": 1})])
        for line in process.stdout:
            if line.startswith("checkpoint: "):
                break
        run = self.folder / "run"
        try:
            for turn in range(5):
                for part in (["list", run], ["verify", run], ["export", run, "--to", self.folder / f"model{turn}"]):
                    result = plasmid.run(["checkpoint", *part])
                    self.assertEqual(result.returncode, 0, result.stderr + result.stdout)
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=plasmid.TIMEOUT)


class Unreachable(RunTest):
    def as_nobody(self, job):
        for path in [plasmid.PROGRAM, *plasmid.PROGRAM.parents]:
            if os.stat(path).st_mode & 0o001 == 0:
                self.skipTest(f"{path} is not for every user")
        shared = pathlib.Path(shutil.copy(job, self.folder))if job.parent != self.folder else job
        user = {} if os.getuid() else {"user": NOBODY, "group": NOBODY, "extra_groups": []}
        env = {**plasmid.environment(), "HOME": str(self.folder), "TMPDIR": "/tmp", "XDG_CACHE_HOME": "/nowhere"}
        return subprocess.run(plasmid.command_line(["train", shared]), env=env, capture_output=True, text=True,
                              timeout=plasmid.TIMEOUT, **user)

    def refused(self, result, words):
        self.assertEqual(result.returncode, 73, result.stderr)
        self.assertEqual(len(plasmid.our_lines(result.stderr)), 1, result.stderr)
        for word in ("run_directory: ", *words):
            self.assertIn(word, result.stderr)

    def job(self, *arguments, **groups):
        data = self.folder / "data.txt"
        data.write_text("ACGT" * 1000)
        return super().job(*arguments, **{"data": {"files": [str(data)]}, **groups})

    def test_without_permission(self):
        os.chmod(self.folder, 0o755)
        closed = self.folder / "closed"
        closed.mkdir()
        (closed / "run").mkdir()
        os.chmod(closed, 0o700 if os.getuid() == 0 else 0o000)
        try:
            for name in ("closed/run", "closed/other", "closed/a/b"):
                with self.subTest(name=name):
                    job = self.folder / "job.textproto"
                    job.write_text(self.job().read_text().replace(str(self.folder / "run"), str(self.folder / name)))
                    self.refused(self.as_nobody(job), ["cannot be reached", "Permission denied"])
        finally:
            os.chmod(closed, 0o700)
        self.assertEqual([path.name for path in closed.iterdir()], ["run"])

    def test_where_nothing_may_be_written(self):
        os.chmod(self.folder, 0o555)
        try:
            job = self.job() if os.getuid() == 0 else None
            if job is None:
                self.skipTest("needs root")
            self.refused(self.as_nobody(job), ["cannot be made", "Permission denied"])
        finally:
            os.chmod(self.folder, 0o755)

    def test_a_run_of_another_user(self):
        if os.getuid():
            self.skipTest("needs root")
        os.chmod(self.folder, 0o755)
        job = self.job()
        self.train(job)
        before = plasmid.exit_record(self.folder / "run")
        self.refused(self.as_nobody(self.job(steps=5)), ["cannot be written", "Permission denied"])
        self.assertEqual(plasmid.exit_record(self.folder / "run"), before)

    def test_a_read_only_file_system(self):
        mount = self.folder / "mount"
        mount.mkdir()
        made = subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", mount], capture_output=True, text=True)
        if made.returncode != 0:
            self.skipTest(f"no read-only file system to be had: {made.stderr.strip()}")
        self.addCleanup(subprocess.run, ["umount", mount], check=True)
        for place in (mount, mount / "run"):
            result = plasmid.run(["train", self.job(), "--set", f"run_directory={place}"])
            self.refused(result, ["Read-only file system"])

    def test_a_file_in_the_way(self):
        blocker = self.folder / "file"
        blocker.write_text("")
        for place in (blocker, blocker / "below", blocker / "further/below"):
            self.refused(plasmid.run(["train", self.job(), "--set", f"run_directory={place}"]), [str(place)])
        self.assertEqual(blocker.read_text(), "")


class Rows(RunTest):
    def test_a_row_that_no_run_wrote_is_named(self):
        self.train(self.job())
        metrics = self.folder / "run/metrics.jsonl"
        whole = metrics.read_text()
        lines = whole.splitlines(keepends=True)
        for text, place in ((whole + '{"step":"x"}\n', 4), (whole + '{"step":4.5}\n', 4), (whole + '{"loss":1}\n', 4),
                            (whole + '{"step":99999999999999999999}\n', 4), (lines[0] + "junk\n" + lines[1], 2),
                            (lines[0] + "\0\0\0\n" + lines[2], 2), ('{"step":[]}\n' + whole, 1)):
            for ranks in (None, 2) if plasmid.MPIEXEC else (None,):
                with self.subTest(text=text[-40:], ranks=ranks):
                    metrics.write_text(text)
                    result = self.train(self.job(steps=5, ranks=ranks), ranks, 65)
                    self.assertIn(f"{metrics}:{place}: ", result.stderr)
                    self.assertEqual(metrics.read_text(), text)

    def test_what_a_crash_tore_goes(self):
        self.train(self.job("whole", 5))
        self.train(self.job())
        metrics = self.folder / "run/metrics.jsonl"
        metrics.write_text(metrics.read_text() + '{"step":4,"loss":9}\n\0\0\0\n{"step":5,"lo')
        self.train(self.job(steps=5))
        self.assertEqual(self.losses(), self.losses("whole"))

    def test_a_tokenizer_that_stood_there_is_not_taken_for_a_leftover(self):
        run = self.folder / "run"
        run.mkdir()
        (run / "tokenizer.json").write_text("the user's")
        self.assertIn("is not empty and holds no run", self.train(self.job(), code=73).stderr)
        self.assertEqual([path.name for path in run.iterdir()], ["tokenizer.json"])

    def test_a_start_ended_by_force_leaves_no_run(self):
        run = self.folder / "run"
        (run / "checkpoints").mkdir(parents=True)
        (run / ".lock").write_text("process 1 on host elsewhere\n")
        (run / ".plasmid-1-0.tmp").write_text("half")
        self.train(self.job())
        (self.folder / "other").mkdir()
        (self.folder / "other/notes.txt").write_text("mine")
        self.assertIn("holds no run", self.train(self.job("other"), code=73).stderr)


if __name__ == "__main__":
    sys.exit(unittest.main(verbosity=2))
