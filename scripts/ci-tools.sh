#!/usr/bin/env bash
# Installs what some stages of `npm test` need and this machine lacks: an arm64 emulator and linker, a software GPU, two
# Rust targets, Miri. What cannot be installed is said in one line; the check then skips the stages that need it.
set -uo pipefail
cd "$(dirname "$0")/.."

log=$(mktemp)
trap 'rm -f "$log"' EXIT

# Runs a command quietly; a failure is one line, with the last of what it printed.
try() {
  echo "$*"
  timeout 900 "$@" >"$log" 2>&1 </dev/null || echo "failed: $(tail -n 1 "$log")"
}

has() { command -v "$1" >/dev/null; }

packages=()
if ! has qemu-aarch64-static || ! has aarch64-linux-gnu-gcc || ! [ -e /usr/aarch64-linux-gnu/lib/libc.so.6 ]; then
  packages+=(qemu-user-static gcc-aarch64-linux-gnu libc6-dev-arm64-cross)
fi
# Vulkan's loader and a driver, be it that of a real GPU
driver() { compgen -G '/usr/share/vulkan/icd.d/*.json' || compgen -G '/etc/vulkan/icd.d/*.json'; }
if ! ldconfig -p | grep -q libvulkan.so.1 || ! driver >/dev/null; then
  packages+=(libvulkan1 mesa-vulkan-drivers)
fi
if [ ${#packages[@]} -gt 0 ]; then
  if has apt-get && [ "$(id -u)" = 0 ]; then
    export DEBIAN_FRONTEND=noninteractive
    try apt-get -qq update
    try apt-get -qq install -y --no-install-recommends "${packages[@]}"
  else
    echo "missing, and only root with apt-get can install them: ${packages[*]}"
  fi
fi

if has rustup; then
  try rustup target add aarch64-unknown-linux-gnu wasm32-unknown-unknown
  if ! rustup component list --toolchain nightly --installed 2>/dev/null | grep -q rust-src ||
    ! rustup which --toolchain nightly cargo-miri >/dev/null 2>&1; then
    try rustup toolchain install nightly --profile minimal --component miri,rust-src --allow-downgrade
  fi
else
  echo "missing: rustup, which installs other Rust targets and Miri"
fi
exit 0
