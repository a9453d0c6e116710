#!/bin/sh
# Debian keeps venv in a package of its own: root gets it installed, anyone else is told its name.
set -eu
if [ "$(id -u)" != 0 ] || [ "${PACKAGES:-yes}" = no ] || ! command -v apt-get >/dev/null; then
  echo "python3-venv is missing: apt-get install python3-venv" >&2
  exit 1
fi
echo "installing python3-venv; PACKAGES=no leaves it out" >&2
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq python3-venv >/dev/null
