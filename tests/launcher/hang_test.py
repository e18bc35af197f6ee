"""A rank that dies or hangs ends the whole job, with a line that names it and an exit.json that can be believed.

Hangs are made by force: SIGSTOP halts a whole process, as a swapped-out or cut-off host does; ptrace halts its main
thread alone, as a loop or a file system that never answers does."""

import ctypes
import os
import pathlib
import random
import re
import signal
import subprocess
import sys
import time
import unittest

import plasmid_command as plasmid
from run_case import RunTest

TIMEOUT = 3  # train.timeout_seconds
SLACK = 10   # within which the job must be gone after that
RANKS = 3

PTRACE_SEIZE, PTRACE_INTERRUPT = 0x4206, 0x4207
libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
libc.ptrace.restype = ctypes.c_long


def children_of(launcher):
    """Process ids by rank of the program below a launcher."""
    ranks = {}
    for entry in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            if parent != launcher or (entry / "comm").read_text().strip() != pathlib.Path(plasmid.PROGRAM).name:
                continue
            variables = (entry / "environ").read_bytes().decode(errors="replace")
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        rank = re.search(r"(?:OMPI_COMM_WORLD_RANK|PMI_RANK)=(\d+)", variables)
        if rank:
            ranks[int(rank.group(1))] = int(entry.name)
    return ranks


def threads_of(pid):
    try:
        return {task.joinpath("comm").read_text().strip() for task in pathlib.Path(f"/proc/{pid}/task").iterdir()}
    except (FileNotFoundError, ProcessLookupError):
        return set()


def runs(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_until(condition, seconds):
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.01)
    return True


def halt_main_thread(pid):
    for request in (PTRACE_SEIZE, PTRACE_INTERRUPT):
        if libc.ptrace(request, pid, None, None) != 0:
            raise unittest.SkipTest(f"ptrace is not allowed here: {os.strerror(ctypes.get_errno())}")


@unittest.skipUnless(plasmid.MPIEXEC, "built without MPI")
class HangTest(RunTest):
    def begin(self, steps=10**6, reaches_steps=True, extra=(), every=2, **train):
        """A running job: the launcher, the processes by rank."""
        job = self.job(steps=steps, ranks=RANKS, train={"steps": steps, "timeout_seconds": TIMEOUT, **train},
                       checkpoint={"every": every})
        folder = self.folder / "run/checkpoints"
        before = set(folder.glob("step-*"))
        launcher = subprocess.Popen(plasmid.command_line(["train", job], RANKS, extra), env=plasmid.environment(),
                                    stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.addCleanup(self.clear, launcher)
        if reaches_steps:
            self.assertTrue(any(line.startswith("step ") for line in launcher.stdout), "it never came to a step")
            self.assertTrue(every == 0 or wait_until(lambda: set(folder.glob("step-*")) - before, 60))
            time.sleep(random.Random(self.id()).uniform(0.5, 1))  # any moment of a step or a save
        self.assertTrue(wait_until(lambda: len(children_of(launcher.pid)) == RANKS, 60))
        self.processes = children_of(launcher.pid)
        return launcher, self.processes

    def clear(self, launcher):
        for pid in [launcher.pid, *getattr(self, "processes", {}).values()]:
            if runs(pid):
                os.kill(pid, signal.SIGKILL)
        launcher.communicate()

    def gone(self, launcher, seconds, minds=True):
        """Waits for all processes of the job; returns what was said."""
        start = time.monotonic()
        _, said = launcher.communicate(timeout=seconds)
        for pid in self.processes.values():
            self.assertTrue(wait_until(lambda: not runs(pid), seconds - (time.monotonic() - start)), f"orphan {pid}")
        if minds:
            self.assertNotEqual(launcher.returncode, 0)
        return plasmid.our_lines(said)

    def told(self, lines, pattern, code=75, retry=True):
        self.assertEqual(len(lines), 1, lines)
        self.assertRegex(lines[0], pattern)
        self.assertRegex(lines[0], r" (in|waits in|after) \w+ of \d ranks \(its operation \d+\)")
        record = plasmid.exit_record(self.folder / "run")
        self.assertEqual(record, {"code": code, "reason": lines[0].removeprefix("plasmid: "), "retry": retry})

    def still_trains(self, launcher):
        metrics = self.folder / "run/metrics.jsonl"
        wanted = metrics.read_bytes().count(b"\n") + 10
        self.assertTrue(wait_until(lambda: metrics.read_bytes().count(b"\n") >= wanted, plasmid.TIMEOUT))
        self.assertIsNone(launcher.poll())
        self.assertFalse((self.folder / "run/exit.json").exists())

    def goes_on(self):
        """The lock is free, the checkpoints are good, the run ends as it should."""
        reached = max(int(path.name[5:]) for path in (self.folder / "run/checkpoints").glob("step-*"))
        job = self.job(ranks=RANKS, train={"steps": reached + 2})
        self.train(job, RANKS)
        self.assertEqual(plasmid.exit_record(self.folder / "run")["code"], 0)
        self.assertEqual(self.rows()[-1]["step"], reached + 2)


class Lost(HangTest):
    def test_a_killed_rank(self):
        for rank in (1, 0):
            with self.subTest(rank=rank):
                launcher, ranks = self.begin()
                os.kill(ranks[rank], signal.SIGKILL)
                lines = self.gone(launcher, SLACK)
                self.told(lines, rf"^plasmid: rank {rank} on host \S+ is gone \(killed, crashed or out of memory\), "
                                 r"last heard .* in step \d+, ")
                self.goes_on()

    def test_a_killed_rank_under_a_launcher_that_does_not_mind(self):
        launcher, ranks = self.begin(extra=["--enable-recovery"])
        os.kill(ranks[2], signal.SIGKILL)
        self.told(self.gone(launcher, SLACK, minds=False), r"^plasmid: rank 2 on host \S+ is gone ")

    def test_a_rank_killed_before_the_first_step_of_a_run_that_goes_on(self):
        self.train(self.job(steps=2, ranks=RANKS, train={"steps": 2}), RANKS)
        launcher, ranks = self.begin(reaches_steps=False)
        self.assertTrue(any(line.startswith("going on from ") for line in launcher.stdout))
        os.kill(ranks[1], signal.SIGKILL)
        lines = self.gone(launcher, SLACK)
        self.assertEqual(len(lines), 1, lines)
        record = plasmid.exit_record(self.folder / "run")
        self.assertEqual(record["reason"], lines[0].removeprefix("plasmid: "))
        if "no checkpoint was saved since" in lines[0]:
            self.assertIn("; no checkpoint was saved since the run went on from its checkpoint of step 2", lines[0])
            self.assertEqual((record["code"], record["retry"]), (74, False))
        else:
            self.assertRegex(lines[0], r"; the run can go on from its checkpoint of step \d+$")
            self.assertEqual((record["code"], record["retry"]), (75, True))

    def test_a_rank_killed_in_a_run_without_a_checkpoint_is_not_tried_again(self):
        launcher, ranks = self.begin(every=0)
        os.kill(ranks[1], signal.SIGKILL)
        self.told(self.gone(launcher, SLACK), r"; the run has no checkpoint yet$", 74, False)

    def test_a_rank_killed_before_its_first_step(self):
        launcher, ranks = self.begin(reaches_steps=False)
        self.assertTrue(wait_until(lambda: "watchdog" in threads_of(ranks[1]), 60))
        os.kill(ranks[1], signal.SIGKILL)
        lines = self.gone(launcher, SLACK)
        self.assertEqual(len(lines), 1, lines)
        self.assertRegex(lines[0], r"^plasmid: rank 1 on host \S+ is gone .*")


class Stuck(HangTest):
    def test_a_stopped_process(self):
        for rank in (2, 0):
            with self.subTest(rank=rank):
                launcher, ranks = self.begin()
                os.kill(ranks[rank], signal.SIGSTOP)
                lines = self.gone(launcher, TIMEOUT + SLACK)
                self.told(lines, rf"rank {rank} on host \S+(, | is silent, )last heard .* in step \d+, .*"
                                 r"; rank \d on host \S+ waits in ")
                self.goes_on()

    def test_a_main_thread_that_never_comes_back(self):
        for rank in (1, 0):
            with self.subTest(rank=rank):
                launcher, ranks = self.begin()
                halt_main_thread(ranks[rank])
                lines = self.gone(launcher, TIMEOUT + SLACK)
                self.told(lines, rf"^plasmid: no rank has made progress for 3\.0 s \(train\.timeout_seconds\): .*"
                                 rf"rank {rank} on host \S+ ")
                self.goes_on()

    def test_a_stopped_process_under_a_launcher_that_does_not_mind(self):
        launcher, ranks = self.begin(extra=["--enable-recovery"])
        os.kill(ranks[1], signal.SIGSTOP)
        self.told(self.gone(launcher, TIMEOUT + SLACK, minds=False), r"rank 1 on host \S+ is silent, ")

    def test_a_rank_stopped_before_its_first_step(self):
        launcher, ranks = self.begin(reaches_steps=False)
        self.assertTrue(wait_until(lambda: "watchdog" in threads_of(ranks[1]), 60))
        os.kill(ranks[1], signal.SIGSTOP)
        lines = self.gone(launcher, TIMEOUT + SLACK)
        self.assertEqual(len(lines), 1, lines)
        self.assertRegex(lines[0], r"rank 1 on host \S+ is silent, last heard .*; rank \d on host \S+ waits in \w+ of 3")

    def test_a_job_that_is_stopped_whole_and_goes_on_is_not_ended(self):
        launcher, ranks = self.begin()
        for pid in ranks.values():
            os.kill(pid, signal.SIGSTOP)
        time.sleep(3 * TIMEOUT)
        for pid in ranks.values():
            os.kill(pid, signal.SIGCONT)
        self.still_trains(launcher)

    def test_no_timeout_waits(self):
        launcher, ranks = self.begin(timeout_seconds=0)
        os.kill(ranks[1], signal.SIGSTOP)
        time.sleep(TIMEOUT + 1)
        os.kill(ranks[1], signal.SIGCONT)
        self.still_trains(launcher)


class Jobs(HangTest):
    def test_a_timeout_that_leaves_no_time_is_refused(self):
        result = self.train(self.job(train={"timeout_seconds": 0.5}), code=78)
        self.assertIn("train.timeout_seconds: 0.5 is below 1: give more, or 0 for none", result.stderr)


if __name__ == "__main__":
    if not plasmid.MPIEXEC:
        sys.exit(77)
    unittest.main()
