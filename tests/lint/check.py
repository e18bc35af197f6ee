#!/usr/bin/env python3
"""Checks what the compiler does not: the direction of includes between folders, file lengths, stray text, format.

check.py [ROOT]        prints each fault as `file:line: what` and fails if there is one
check.py --arrows      also prints how many includes go from which folder to which
check.py --self-test   plants each kind of fault in a temporary tree and proves that it is found
"""
import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

# Each folder with those that it may include.
MAY_INCLUDE = {
    "runtime": {"runtime"},
    "parallel": {"runtime", "parallel"},
    "attention": {"runtime", "parallel", "attention"},
    "launcher": {"runtime", "parallel", "attention", "launcher", "proto"},
    "proto": {"proto"},
    "tests": {"runtime", "parallel", "attention", "launcher", "proto", "tests"},
}
EXTRA = {"parallel/checkpoint": {"proto"}}

# Headers from outside that only some places may see; all else in MAY_INCLUDE but tests may not.
FOREIGN = [
    (re.compile(r"mpi\.h$"), "mpi.h", re.compile(r"parallel/comm/mpi[^/]*$")),
    (re.compile(r"(grpc|grpcpp|google/protobuf)/|.*\.pb\.h$"), "protobuf or gRPC",
     re.compile(r"(launcher|proto|parallel/checkpoint)/")),
]

LONGEST_FILE = 500
CODE = {".cpp", ".hpp", ".cu", ".cuh", ".h"}
TEXT = CODE | {".py", ".sh", ".cmake", ".proto", ".json", ".textproto", ".md", ".txt", ".yml", ".yaml"}
SKIPPED_FOLDERS = re.compile(r"(\.git|build.*|runs|shared|__pycache__)$")
INCLUDE = re.compile(r'\s*#\s*include\s*([<"])([^>"]+)[>"]')
# Spelt in pieces, so that this file passes its own check.
ABSOLUTE = re.compile(r"(?<![\w.~$})*-])/(" + "|".join(["wo" + "rk", "ro" + "ot", "ho" + "me"]) + r")(/|\b)")
LEFTOVER = re.compile(r"\b(" + "|".join(["TO" + "DO", "FIX" + "ME", "X" + "XX", "HA" + "CK"]) + r")\b|^(<{7}|>{7}) ")


def files_of(root):
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not SKIPPED_FOLDERS.match(name))
        for name in sorted(names):
            path = Path(folder, name)
            if path.suffix in TEXT or name in (".clang-tidy", ".clang-format", "run"):
                yield path.relative_to(root).as_posix(), path


def include_fault(name, target, arrows):
    """What is wrong with `name` including `target`, or None."""
    folder, into = name.split("/")[0], target.split("/")[0]
    if folder not in MAY_INCLUDE:
        return None
    if folder != "tests":
        for pattern, what, places in FOREIGN:
            if pattern.match(target) and not places.match(name):
                return f"includes {target}; {what} has no place here"
    if target.startswith("."):
        return f"includes {target}; includes start at the root"
    if into not in MAY_INCLUDE:
        return None
    arrows[folder, into] += 1
    allowed = set(MAY_INCLUDE[folder])
    for prefix, extra in EXTRA.items():
        if name.startswith(prefix + "/"):
            allowed |= extra
    return None if into in allowed else f"includes {target}; {folder} may not see {into}"


def check_file(name, path, arrows):
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    if len(lines) > LONGEST_FILE and name != "LICENSE":
        yield len(lines), f"{len(lines)} lines; {LONGEST_FILE} are the most"
    for number, line in enumerate(lines, 1):
        if match := ABSOLUTE.search(line):
            yield number, f"an absolute path: {match.group().strip()}"
        if match := LEFTOVER.search(line):
            yield number, f"a leftover: {match.group().strip()}"
        if path.suffix in CODE and (match := INCLUDE.match(line)):
            if fault := include_fault(name, match.group(2), arrows):
                yield number, fault
    guarded = name.endswith("-inl.hpp")  # Highway reads these once for each instruction set
    if path.suffix == ".hpp" and not guarded and not any(line.strip() == "#pragma once" for line in lines):
        yield 1, "a header without #pragma once"


def check_format(root, names):
    tool = shutil.which("clang-format")
    if not tool:
        print("clang-format is not installed; the format is not checked")
        return
    version = re.search(r"version (\d+)", subprocess.run([tool, "--version"], capture_output=True, text=True).stdout)
    if not version or version.group(1) != "14":
        print(f"clang-format is {version.group(1) if version else 'of an unknown version'}, not 14, whose output this is")
        return
    result = subprocess.run([tool, "--dry-run", "-ferror-limit=1", "--style=file", *names], cwd=root,
                            capture_output=True, text=True)
    for match in re.finditer(r"^(\S+?):(\d+):\d+: \w+: code should be clang-formatted", result.stderr, re.MULTILINE):
        yield match.group(1), int(match.group(2)), "clang-format would change it"


def check(root, arrows=None):
    arrows = Counter() if arrows is None else arrows
    faults, code = [], []
    for name, path in files_of(root):
        faults += [(name, line, what) for line, what in check_file(name, path, arrows)]
        if path.suffix in CODE:
            code.append(name)
    if code:
        faults += list(check_format(root, code))
    return faults


PLANTED = {
    "runtime/a.hpp": ('#pragma once\n#include "parallel/b.hpp"\n', "runtime may not see parallel"),
    "runtime/b.cpp": ("#include <mpi.h>\n", "mpi.h has no place"),
    "runtime/c.cpp": ("#include <google/protobuf/message.h>\n", "protobuf or gRPC has no place"),
    "runtime/d.cpp": ('#include "../runtime/e.hpp"\n', "includes start at the root"),
    "runtime/f.hpp": ("int f();\n", "without #pragma once"),
    "runtime/g.cpp": ("// " + "TO" + "DO: later\n", "a leftover"),
    "runtime/h.cpp": ('const char* place = "/' + 'home/someone";\n', "an absolute path"),
    "runtime/i.cpp": ("int i;\n" * 501, "501 lines"),
    "parallel/comm/threads.cpp": ("#include <mpi.h>\n", "mpi.h has no place"),
    "parallel/mesh/j.cpp": ('#include "attention/k.hpp"\n', "parallel may not see attention"),
    "parallel/mesh/l.cpp": ('#include "proto/job.pb.h"\n', "protobuf or gRPC has no place"),
    "attention/m.cpp": ('  #  include "launcher/n.hpp"\n', "attention may not see launcher"),
    "attention/o.cpp": ('#include "tests/p.hpp"\n', "attention may not see tests"),
}
SOUND = {
    "runtime/io/a.hpp": "#pragma once\n#include <unistd.h>\n\n#include \"runtime/base/b.hpp\"\n",
    "parallel/comm/mpi_support.hpp": "#pragma once\n#include <mpi.h>\n",
    "parallel/checkpoint/c.cpp": '#include "proto/checkpoint.pb.h"\n',
    "attention/d.cpp": '#include "attention/e.hpp"\n#include "parallel/f.hpp"\n#include "runtime/g.hpp"\n',
    "attention/host-inl.hpp": "// read once for each instruction set\n",
    "launcher/h.cpp": '#include "proto/job.pb.h"\n',
    "tests/i.cpp": '#include <mpi.h>\n\n#include "launcher/j.hpp"\n',
    "cluster/k.sh": 'cd "$HOME/' + 'work/' + 'root"\n',
    "build/l.cpp": "#include <mpi.h>\n// " + "TO" + "DO\n",
}


def self_test():
    def faults_in(files):
        with tempfile.TemporaryDirectory() as folder:
            for name, text in files.items():
                path = Path(folder, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
            shutil.copy(Path(__file__).parents[2] / ".clang-format", folder)
            return check(Path(folder))

    if unexpected := faults_in(SOUND):
        sys.exit(f"a sound tree is refused: {unexpected}")
    for name, (text, expected) in PLANTED.items():
        faults = faults_in({**SOUND, name: text})
        if not any(fault[0] == name and expected in fault[2] for fault in faults):
            sys.exit(f"{name}: '{expected}' was not found; found {faults}")
    if shutil.which("clang-format") and not faults_in({"runtime/q.cpp": "int  q ;\n"}):
        print("a badly formatted file passes (clang-format is not version 14?)")
    print(f"each of {len(PLANTED)} planted faults was found")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", nargs="?", type=Path, default=Path(__file__).parents[2])
    parser.add_argument("--arrows", action="store_true")
    parser.add_argument("--self-test", action="store_true")
    options = parser.parse_args()
    if options.self_test:
        self_test()
        return
    arrows = Counter()
    faults = check(options.root, arrows)
    if options.arrows:
        for (source, target), count in sorted(arrows.items()):
            print(f"{source:10} -> {target:10} {count}")
    for name, line, what in faults:
        print(f"{name}:{line}: {what}")
    if not arrows:
        sys.exit(f"no include was found under {options.root}")
    if faults:
        sys.exit(1)


if __name__ == "__main__":
    main()
