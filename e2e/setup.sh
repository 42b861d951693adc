#!/usr/bin/env bash
# Installs what the end-to-end tests need: `setup.sh node` Node and npm, `setup.sh clients` the clients that are not npm
# packages, `setup.sh prometheus` Prometheus and its promtool. As root on a Debian machine it installs; otherwise it says what to install.
set -euo pipefail

# Node 18 is the first with fetch and a usable test runner, and what Debian 12 has.
min_node=18

die() {
  echo "e2e: $*" >&2
  exit 1
}

# install COMMAND PACKAGE…: makes sure that COMMAND exists.
install() {
  local command=$1
  shift
  command -v "$command" >/dev/null && return
  [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null ||
    die "$command is missing: install it (Debian: apt-get install $*) and run this again"
  echo "e2e: installing $*" >&2
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
  command -v "$command" >/dev/null || die "$command is still missing after installing $*"
}

case ${1:-} in
node)
  install node nodejs
  install npm npm
  have=$(node -p 'process.versions.node.split(".")[0]')
  [ "$have" -ge "$min_node" ] || die "Node $(node --version) is too old: $min_node or later is needed"
  echo "e2e: node $(node --version), npm $(npm --version)"
  ;;
clients)
  # Makes the certificates for clients that only speak to https://slack.com/.
  install openssl openssl
  if [ "${E2E_SKIP_LOCALSLACKIRC:-}" = 1 ]; then
    # For machines without Debian's packages. Not in CI: a suite that skips there proves nothing.
    [ -z "${CI:-}" ] || die "E2E_SKIP_LOCALSLACKIRC is not for CI"
    exit 0
  fi
  # Debian only recommends python3-emoji; without it localslackirc 1.17 fails at the first text that it shows.
  install localslackirc localslackirc python3-emoji
  /usr/bin/python3 -c 'import emoji, websockets' || die "localslackirc lacks a library: apt-get install python3-emoji python3-websockets"
  ;;
prometheus)
  # Only the programs are wanted: RUNLEVEL=1 keeps the package from starting a server on port 9090.
  RUNLEVEL=1 install promtool prometheus
  RUNLEVEL=1 install prometheus prometheus
  ;;
*)
  die "usage: setup.sh node|clients|prometheus"
  ;;
esac
