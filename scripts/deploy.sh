#!/usr/bin/env bash
# Checks the files of deploy/, as far as one machine can: manifests, the chart, the unit, rules of Prometheus, nginx with two replicas of
# which one is killed, and the image. Needs root for the image, and a network of package registries; what is not installed is said and
# left out. CI does not run this.
#
#   KSERVE=FOLDER   config/crd/full of KServe's source, to check deploy/kserve
#   COMPOSE=FILE    schema/compose-spec.json of the Compose specification, to check deploy/compose.yaml
#   IMAGE=1         make an image from Debian's packages by debootstrap and buildah, and let it answer a request
set -euo pipefail
[ $# -eq 0 ] || { sed -n '2,/^set/p' "$0" | grep '^#'; exit 2; }
cd "$(dirname "$0")/.."
sardonyx=target/debug/sardonyx work=target/deploy failed=()
mkdir -p "$work"

step() { # step NAME COMMAND...: runs it, and goes on
  printf '\n== %s\n' "$1"
  "${@:2}" || failed+=("$1")
}
with() { # with PROGRAM NAME COMMAND...: the step, if the program is installed
  if command -v "$1" >/dev/null; then step "${@:2}"; else printf '\n== %s: not run, there is no %s\n' "$2" "$1"; fi
}

manifests() {
  [ -x "$work/venv/bin/python" ] || python3 -m venv "$work/venv"
  "$work/venv/bin/pip" install -q --disable-pip-version-check kubernetes-validate==1.37.0 helm-python-sdk==0.2.2 jsonschema==4.26.0 pyyaml==6.0.4
  "$work/venv/bin/python" deploy/check.py ${KSERVE:+--kserve "$KSERVE"} ${COMPOSE:+--compose "$COMPOSE"}
}

unit() { # the program and the manual need not be installed for the check
  sed 's|^ExecStart=/usr/local/bin/sardonyx|ExecStart=/bin/true|; /^Documentation=/d' deploy/sardonyx.service >"$work/sardonyx.service"
  systemd-analyze verify "$work/sardonyx.service"
  systemd-analyze security --offline=true --threshold=30 "$work/sardonyx.service" | tail -1
}

prometheus() {
  promtool check config deploy/prometheus/prometheus.yml && promtool test rules deploy/prometheus/alerts_test.yml
}

image() {
  local store=(--storage-driver vfs --root "$PWD/$work/store" --runroot "$PWD/$work/run") debian container folder server answer
  export BUILDAH_ISOLATION=chroot
  [ -d "$work/debian/usr" ] || debootstrap --variant=minbase bookworm "$work/debian" >/dev/null
  debian=$(buildah "${store[@]}" from scratch)
  buildah "${store[@]}" copy -q "$debian" "$work/debian" / >/dev/null
  buildah "${store[@]}" commit -q --rm "$debian" localhost/debian:base >/dev/null
  # The stage that builds is replaced by the program that is there.
  install -D "$sardonyx" "$work/built/out/sardonyx"
  strip --strip-debug "$work/built/out/sardonyx"
  buildah "${store[@]}" bud -q --format docker -f deploy/Dockerfile --build-context build="$work/built" \
    --build-arg DEBIAN=localhost/debian:base -t sardonyx . >/dev/null
  container=$(buildah "${store[@]}" from localhost/sardonyx)
  folder=$(mktemp -d)
  "$sardonyx" repo add "$work/addsub.onnx" "$folder" --name addsub >/dev/null
  chmod -R a+rX "$folder"
  buildah "${store[@]}" run -v "$folder:/models:ro" "$container" -- sardonyx serve /models --http-port 21490 --grpc-port 21491 --metrics-port 21492 &
  for _ in $(seq 300); do curl -sf localhost:21490/v2/health/ready >/dev/null && break; sleep 0.2; done
  answer=$(curl -s localhost:21490/v2/models/addsub/infer -d '{"inputs": [
    {"name": "INPUT0", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]},
    {"name": "INPUT1", "shape": [1, 4], "datatype": "FP32", "data": [10, 20, 30, 40]}]}')
  echo "$answer"
  server=$(pgrep -f '^/usr/local/bin/sardonyx serve /models --http-port 21490')
  echo "user $(stat -c %u "/proc/$server")"
  kill -TERM "$server"
  wait
  buildah "${store[@]}" rm "$container" >/dev/null
  rm -rf "$folder"
  case $answer in *'[11.0,22.0,33.0,44.0]'*) ;; *) return 1 ;; esac
}

nice cargo build --quiet -p sardonyx-cli
sed -n "/<<'ONNX'/,/^ONNX/p" deploy/failover.sh | sed '1d;$d' | base64 -d >"$work/addsub.onnx"
step "manifests and the chart" manifests
with systemd-analyze "the unit of systemd" unit
with promtool "Prometheus" prometheus
with nginx "two replicas behind nginx" deploy/failover.sh "$sardonyx"
if [ -n "${IMAGE-}" ]; then with buildah "the image" image; else printf '\n== the image: not run, set IMAGE=1\n'; fi

[ ${#failed[@]} -eq 0 ] && echo "all is well" || { printf 'failed: %s\n' "${failed[@]}"; exit 1; }
