#!/usr/bin/env bash
# From a bare Debian 12 machine to a trained model: installs the packages, builds Plasmid, and trains a small GPT on the
# genome of the phage lambda, its sequence cut over two MPI ranks. Takes about 2 minutes of training on 2 cores.
#   bash cluster/quickstart.sh [FIELD=VALUE]...     job fields to replace, such as train.steps=20
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. cluster/packages.sh

install_packages "${build_packages[@]}"

say "Building Plasmid in build/release"
cmake --preset release -DPLASMID_TESTS=OFF >/dev/null
ninja -C build/release --quiet plasmid

run=runs/lambda_phage
for ((n = 2; ; n++)); do
  [ -e "$run" ] || break
  run=runs/lambda_phage_$n
done

say "Training on cluster/data/lambda_phage.fa.gz: job cluster/jobs/lambda_phage.textproto, run directory $run"
settle_open_mpi
overrides=(--set run_directory="$run")
for field in "$@"; do overrides+=(--set "$field"); done
# Ctrl-C reaches the ranks as SIGTERM; the time is for the step under way and the weights.
OMPI_MCA_odls_base_sigkill_timeout=5 mpirun -n 2 --oversubscribe --bind-to none \
  build/release/bin/plasmid train cluster/jobs/lambda_phage.textproto "${overrides[@]}"

run_as_root=
[ "$(id -u)" -ne 0 ] || run_as_root="--allow-run-as-root "
cat <<END

The run is in $run. What to try next (its numbers; its loss on held-out bases; going on with it; another model):
  tail -n 3 $run/metrics.jsonl
  mpirun ${run_as_root}--oversubscribe -n 2 build/release/bin/plasmid eval $run
  mpirun ${run_as_root}--oversubscribe -n 2 build/release/bin/plasmid train $run/job.textproto --set train.steps=350
  mpirun ${run_as_root}--oversubscribe -n 2 build/release/bin/plasmid train cluster/jobs/lambda_phage.textproto --set run_directory=runs/llama --set model.family=LLAMA
END
