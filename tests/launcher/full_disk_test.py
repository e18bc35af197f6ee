"""A disk that takes no more while a run goes on: rows wait, and the run ends well once there is room, or with 74."""

import resource
import signal
import subprocess
import sys
import unittest

import plasmid_command as plasmid
from run_case import RunTest

RANKS = [None, 2] if plasmid.MPIEXEC else [None]
KEPT, WRITTEN = "rows are kept in memory", "the rows that were kept are written"


def limit_files(process, ranks, size):
    """No regular file of the run's processes may grow beyond this size."""
    for pid in plasmid.processes_of(process) if ranks else [process.pid]:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


class FullDisk(RunTest):
    def start(self, job, ranks, step):
        process = plasmid.start(["train", job], ranks)
        self.addCleanup(process.communicate)
        self.addCleanup(process.kill)
        self.said = []
        self.read_until(process, lambda line: line.startswith("step ") and int(line[5:].split("/")[0]) >= step)
        return process

    def read_until(self, process, wanted):
        for line in process.stdout:
            self.said.append(line)
            if wanted(line):
                return
        raise AssertionError("".join(self.said) + process.stderr.read())

    def end(self, process):
        process.send_signal(signal.SIGTERM)
        stdout, stderr = process.communicate(timeout=plasmid.TIMEOUT)
        self.said += stdout.splitlines(keepends=True)
        return plasmid.our_lines(stderr)

    def times_said(self, words):
        return sum(words in line for line in self.said)

    def goes_on(self, ranks, fill, free, run="run"):
        process = self.start(self.job(steps=10**6, ranks=ranks), ranks, 1)
        fill(process)
        self.read_until(process, lambda line: KEPT in line)
        self.read_until(process, lambda line: line.startswith("step "))
        free(process)
        self.read_until(process, lambda line: WRITTEN in line)
        self.end(process)
        record = plasmid.exit_record(self.folder / run)
        self.assertEqual((record["code"], record["retry"]), (75, True), record)
        self.assertEqual((self.times_said(KEPT), self.times_said(WRITTEN)), (1, 1), self.said)
        self.assertLessEqual(self.times_said("log.txt: lines are missing"), 1)
        reached = len(self.losses(run))
        self.assertEqual(self.checkpoints(run), [f"step-{reached}"])

    def test_rows_wait_until_there_is_room(self):
        for ranks in RANKS:
            with self.subTest(ranks=ranks):
                self.goes_on(ranks, lambda process: limit_files(process, ranks, 1),
                             lambda process: limit_files(process, ranks, resource.RLIM_INFINITY))
                (self.folder / "run").rename(self.folder / f"done{ranks}")

    def test_a_full_file_system(self):
        mount = self.folder / "run"
        mount.mkdir()
        made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", mount], capture_output=True, text=True)
        if made.returncode != 0:
            self.skipTest(f"no small file system to be had: {made.stderr.strip()}")
        self.addCleanup(subprocess.run, ["umount", mount], check=True)
        hog = self.folder / "run/hog"

        def fill(_):
            with open(hog, "wb", buffering=0) as file:
                try:
                    while True:
                        file.write(bytes(4096))
                except OSError:
                    pass

        self.goes_on(None, fill, lambda _: hog.unlink())

    def test_where_there_is_no_room_at_the_end_the_run_ends_with_74(self):
        for ranks in RANKS:
            with self.subTest(ranks=ranks):
                run = f"run{ranks}"
                process = self.start(self.job(run, 10**6, ranks), ranks, 40)
                limit_files(process, ranks, 4096)  # exit.json fits
                self.read_until(process, lambda line: KEPT in line)
                ours = self.end(process)
                if not ranks:  # mpirun has a code of its own once it was signalled
                    self.assertEqual(process.returncode, 74)
                self.assertEqual(len(ours), 1, (ours, self.said))
                record = plasmid.exit_record(self.folder / run)
                self.assertEqual((record["code"], record["retry"]), (74, False), record)
                self.assertRegex(record["reason"], "checkpoint of step .* failed: .*File too large.*"
                                                   r"; \d+ rows? could not be written: .*metrics.jsonl")
                self.assertEqual(self.checkpoints(run), [])

    def test_a_checkpoint_is_saved_though_rows_are_lost(self):
        small = {"model": {"layers": 1, "width": 8}, "data": {"sequence_length": 16}}
        process = self.start(self.job(steps=10**7, **small), None, 400)
        limit_files(process, None, 48 << 10)
        self.read_until(process, lambda line: KEPT in line)
        self.end(process)
        self.assertEqual(process.returncode, 74)
        record = plasmid.exit_record(self.folder / "run")
        self.assertEqual((record["code"], record["retry"]), (74, False))
        self.assertRegex(record["reason"], r"^asked to stop by a signal after step \d+ of 10000000; \d+ rows? could not")
        self.assertEqual(self.checkpoints(), [f"step-{record['reason'].split()[8]}"])
        self.assertLess(len(self.losses()), int(record["reason"].split()[8]))


if __name__ == "__main__":
    sys.exit(unittest.main(verbosity=2))
