#!/usr/bin/env bash
# Installs the packages of apt.txt that are missing, where root and apt allow
# it; elsewhere says in one line what that costs. With --check it only says so.
set -euo pipefail

list="$(dirname "$0")/apt.txt"
missing=()
while read -r package; do
  [[ -z "$package" || "$package" == \#* ]] && continue
  # Elsewhere than on Debian the program under its own name is as good.
  case "$package" in
    chromium-driver) program=chromedriver ;;
    iproute2) program=ip ;;
    *) program=$package ;;
  esac
  command -v "$program" >/dev/null || missing+=("$package")
done <"$list"

if [[ ${#missing[@]} -eq 0 ]]; then
  exit 0
fi
skipped="tests that need ${missing[*]} are skipped"
if [[ "${1:-}" == --check ]]; then
  echo "$skipped (third_party/install_apt.sh installs them as root)"
elif [[ $EUID -ne 0 ]] || ! command -v apt-get >/dev/null; then
  echo "$skipped, and there is no root or no apt to install them"
else
  echo "installing system packages: ${missing[*]}"
  export DEBIAN_FRONTEND=noninteractive
  if ! { apt-get -qq update &&
    apt-get -qq install --no-install-recommends "${missing[@]}"; } >/dev/null
  then
    echo "$skipped, and apt-get could not install them"
  fi
fi
