#!/usr/bin/env bash
# Runs two replicas behind nginx with deploy/nginx.conf, kills one under load with SIGKILL, starts it again, and prints the share of
# requests that were answered, over HTTP and over gRPC. Exits with 1 if a share is below 99.8 %, or if the replica that came back
# answered nothing. Needs nginx and curl.
set -euo pipefail

[ $# -le 2 ] && [ "${1-}" != --help ] || { echo "usage: deploy/failover.sh [SARDONYX [DEVICE]] (target/debug/sardonyx, auto)"; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
sardonyx=$(realpath "${1:-$here/../target/debug/sardonyx}")
device=${2:-auto}
base=${PORT:-21400} seconds=${SECONDS_OF_LOAD:-24} clients=${CLIENTS:-8}
for program in "$sardonyx" nginx curl; do command -v "$program" >/dev/null || { echo "there is no $program; install it first"; exit 2; }; done

work=$(mktemp -d)
declare -A replica
end() {
  for pid in "${replica[@]}" ${proxy-}; do kill "$pid" 2>/dev/null || true; done
  wait
  rm -rf "$work"
}
trap end EXIT

# Sums and differences of two inputs of four numbers a row.
mkdir -p "$work/models/addsub/1" "$work/nginx"
base64 -d >"$work/models/addsub/1/model.onnx" <<'ONNX'
CA46wQEKHgoGSU5QVVQwCgZJTlBVVDESB09VVFBVVDAiA0FkZAoeCgZJTlBVVDAKBklOUFVUMRIHT1VUUFVUMSIDU3ViEgFnWh0KBklOUFVUMBITChEIARINCgcSBWJhdGNo
CgIIBFodCgZJTlBVVDESEwoRCAESDQoHEgViYXRjaAoCCARiHgoHT1VUUFVUMBITChEIARINCgcSBWJhdGNoCgIIBGIeCgdPVVRQVVQxEhMKEQgBEg0KBxIFYmF0Y2gKAggE
QgQKABAR
ONNX

# Replica N has the ports base+N0, base+N1 and base+N2, and nginx base+0 and base+1.
start() {
  local port=$((base + $1 * 10))
  "$sardonyx" serve "$work/models" --http-address 127.0.0.1 --grpc-address 127.0.0.1 --device "$device" \
    --http-port $port --grpc-port $((port + 1)) --metrics-port $((port + 2)) 2>>"$work/replica$1.log" &
  replica[$1]=$!
}
ready() {
  for _ in $(seq 600); do
    curl -sf "http://127.0.0.1:$1/v2/health/ready" >/dev/null && return
    sleep 0.1
  done
  echo "nothing is ready on port $1"; tail -5 "$work"/*.log; exit 1
}
answered_by() { # the requests that replica $1 has answered
  curl -sf "http://127.0.0.1:$((base + $1 * 10 + 2))/metrics" | sed -n 's/^nv_inference_request_success{.*} //p'
}

for file in nginx replicas; do cp "$here/$file.conf" "$work/"; done
for n in 1 2; do for k in 0 1; do sed -i "s/:8${n}0$k/:$((base + n * 10 + k))/" "$work/replicas.conf"; done; done
for k in 0 1; do sed -i "s/listen 800$k/listen 127.0.0.1:$((base + k))/" "$work/nginx.conf"; done

start 1; start 2
ready $((base + 10)); ready $((base + 20))
nginx -p "$work/nginx" -c "$work/nginx.conf" -e stderr -g 'daemon off;' 2>"$work/nginx.log" &
proxy=$!
ready "$base"

failed=0
for protocol in http grpc; do
  case $protocol in
    http) address=(--url "http://127.0.0.1:$base") ;;
    grpc) address=(--grpc "127.0.0.1:$((base + 1))") ;;
  esac
  "$sardonyx" load addsub "${address[@]}" --concurrency "$clients" --duration "$seconds" --json >"$work/$protocol.json" 2>"$work/load.log" &
  load=$!
  sleep $((seconds / 4))
  kill -KILL "${replica[1]}"; wait "${replica[1]}" 2>/dev/null || true
  sleep $((seconds / 4))
  start 1; ready $((base + 10))
  wait $load || true
  python3 - "$work/$protocol.json" $protocol "$(answered_by 1)" <<'PY' || failed=1
import json, sys
file, protocol, again = sys.argv[1], sys.argv[2], int(float(sys.argv[3] or 0))
report = json.load(open(file))
if "points" not in report:
    sys.exit(f"{protocol}: {report}")
point = report["points"][0]
answered, sent = point["answered"], point["sent"]
share = answered / max(sent, 1)
print(f"{protocol}: {answered} of {sent} requests answered, {share:.4%}; {again} by the replica that came back")
for failure in point["failures"]:
    print(f"  {failure['count']} times {failure['kind']} {failure['code']}: {failure['text']:.160}")
sys.exit(share < 0.998 or again == 0)
PY
done
exit $failed
