# Sourced by the other scripts: the Python environment in data/venv.

# Creates the environment where it is missing, and installs the given packages.
ensure_python() {
  mkdir -p data
  if ! data/venv/bin/python -c '' 2>/dev/null; then
    rm -rf data/venv
    python3 -m venv data/venv >/dev/null 2>&1 ||
      { rm -rf data/venv; install_packages python3-venv && python3 -m venv data/venv; }
  fi
  local stamp="data/venv/$(printf '%s' "$*" | tr -c 'a-zA-Z0-9=.\n' '-')"
  [ $# -eq 0 ] || [ -f "$stamp" ] || { data/venv/bin/pip install -q --disable-pip-version-check "$@" && touch "$stamp"; }
}
