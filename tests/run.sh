#!/usr/bin/env bash
# Installs what the tests need, builds everything, and runs every test.
#   bash tests/run.sh [--preset release|debug|asan|tsan] [-- CTEST_OPTION...]
# The sanitizer presets leave out the tests that start MPI processes: the MPI library is not instrumented.
# The last line is "N passed, N failed".
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. cluster/packages.sh

preset=release
while [ $# -gt 0 ]; do
  case $1 in
    --preset) preset=${2:?--preset needs a name}; shift 2 ;;
    --) shift; break ;;
    *) sed -n '2,5p' "$0" >&2; exit 64 ;;
  esac
done

install_packages "${build_packages[@]}" "${test_packages[@]}"

build=build/$preset
say "Building in $build"
cmake --preset "$preset" -DPLASMID_TESTS=ON >/dev/null
ninja -C "$build" --quiet

say "Testing"
settle_open_mpi
options=()
case $preset in asan | tsan) options+=(-LE processes) ;; esac
results=$PWD/$build/ctest.xml
rm -f "$results"
status=0
ctest --test-dir "$build" --output-on-failure --output-junit "$results" "${options[@]}" "$@" || status=$?

count() { grep -c "$1" "$results" || true; }
total=$(count '<testcase ') passed=$(count '<testcase .*status="run"') skipped=$(count '<skipped message="SKIP_')
failed=$((total - passed - skipped))
[ "$skipped" -eq 0 ] || echo "$skipped skipped: what they need is not here"
echo "$passed passed, $failed failed"
[ "$status" -eq 0 ] && [ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
