# Sourced by cluster/quickstart.sh and tests/run.sh: what they need from Debian 12 (or a relative), and how it gets there.

build_packages=(g++ cmake ninja-build ccache pkg-config libopenmpi-dev openmpi-bin libdnnl-dev libhwy-dev
  libprotobuf-dev protobuf-compiler libcli11-dev libspdlog-dev libhts-dev nlohmann-json3-dev libxxhash-dev zlib1g-dev
  libpcre2-dev libutf8proc-dev libcairo2-dev)
test_packages=(libgtest-dev libbenchmark-dev python3 tabix)

say() { printf '\n== %s\n' "$*"; }

installed() { [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

# install_packages NAME...: those that are not there, through apt; with sudo when not root.
install_packages() {
  if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
    say "No apt here: taking for granted that these are installed under their local names: $*"
    return
  fi
  local missing=() name as_root=()
  for name in "$@"; do installed "$name" || missing+=("$name"); done
  if [ ${#missing[@]} -eq 0 ]; then
    say "All packages are installed"
    return
  fi
  if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null; then
      echo "These packages are missing, and there is neither root nor sudo to install them: ${missing[*]}" >&2
      exit 69
    fi
    as_root=(sudo)
  fi
  say "Installing ${missing[*]}"
  "${as_root[@]}" apt-get update -qq
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" \
    >/dev/null
}

# Open MPI refuses to run as root unless it is told twice; containers often forbid the system call by which it copies
# between processes.
settle_open_mpi() {
  if [ "$(id -u)" -eq 0 ]; then
    export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
  fi
  export OMPI_MCA_btl_vader_single_copy_mechanism=none
}
