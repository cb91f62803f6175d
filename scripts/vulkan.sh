# Sourced by the other scripts: makes sure that there is a Vulkan adapter, and installs a software one if there is none.

# Runs a command as root, if that is allowed without asking.
as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; elif sudo -n true 2>/dev/null; then sudo "$@"; else return 1; fi
}

# Installs Debian packages, or prints the command that does.
install_packages() {
  if command -v apt-get >/dev/null && as_root apt-get update -qq >&2 &&
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >&2; then
    echo "installed: $*" >&2
  else
    echo "could not install $*; as root: apt-get install $*" >&2
    return 1
  fi
}

# grep reads to the end: a pipe that breaks early counts as a failure under pipefail.
have_loader() { ldconfig -p 2>/dev/null | grep 'libvulkan\.so\.1' >/dev/null; }
have_driver() {
  [ -n "${VK_DRIVER_FILES:-}${VK_ICD_FILENAMES:-}" ] ||
    compgen -G '/usr/share/vulkan/icd.d/*.json' >/dev/null || compgen -G '/etc/vulkan/icd.d/*.json' >/dev/null
}

# macOS and Windows bring Metal and DX12.
ensure_vulkan() {
  export XDG_RUNTIME_DIR="${XDG_RUNTIME_DIR:-/tmp}"
  [ "$(uname -s)" = Linux ] || return 0
  if have_loader && have_driver; then return 0; fi
  echo "no Vulkan driver found: installing the software one (mesa-vulkan-drivers)" >&2
  install_packages libvulkan1 mesa-vulkan-drivers
}

# A second software adapter with fewer features, for tests: SwiftShader from Debian's chromium-common, which is unpacked below
# target/ and not installed. No f16, no 64-bit integers, 256 invocations per workgroup, 256-byte offsets.
add_swiftshader() {
  local folder="$PWD/target/swiftshader"
  if [ ! -f "$folder/vk_swiftshader_icd.json" ]; then
    command -v apt-get >/dev/null || return 1
    mkdir -p "$folder/deb"
    # The first try uses the package lists that are there; a fresh machine has none.
    ( cd "$folder/deb" && { apt-get download -qq chromium-common >&2 || { as_root apt-get update -qq >&2 && apt-get download -qq chromium-common >&2; }; } &&
      dpkg -x chromium-common_*.deb . ) || return 1
    cp "$folder/deb/usr/lib/chromium/libvk_swiftshader.so" "$folder/" || return 1
    sed "s#\"library_path\": *\"[^\"]*\"#\"library_path\": \"$folder/libvk_swiftshader.so\"#" \
      "$folder/deb/usr/lib/chromium/vk_swiftshader_icd.json" > "$folder/vk_swiftshader_icd.json"
    rm -rf "$folder/deb"
  fi
  export VK_ADD_DRIVER_FILES="$folder/vk_swiftshader_icd.json"
}
