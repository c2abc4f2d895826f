# shellcheck shell=bash disable=SC2034
# Shell functions shared by the scripts here. Source it; it has no effect of its own.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

if [[ -t 1 && -z ${NO_COLOR:-} && ${TERM:-dumb} != dumb ]]; then
  bold=$'\e[1m' dim=$'\e[2m' red=$'\e[31m' green=$'\e[32m' plain=$'\e[0m'
else
  bold='' dim='' red='' green='' plain=''
fi

step() { printf '%s==> %s%s\n' "$bold" "$*" "$plain"; }
die() {
  printf '%s%s: %s%s\n' "$red" "${0##*/}" "$*" "$plain" >&2
  exit 1
}

need_root() {
  [[ $EUID -eq 0 ]] || die "network namespaces need root: run 'sudo $0'"
}

# What ccache may share between checkouts in different folders, and with precompiled headers.
export CCACHE_BASEDIR=$root CCACHE_NOHASHDIR=1
export CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_ctime,include_file_mtime

# Not awk: Debian's reads a whole block before it looks at the first line.
show_now_and_then() {
  local line last=-10
  while IFS= read -r line; do
    if [[ $line =~ ^(\[[0-9]+/[0-9]+\])\ (.*) && $line != *directories... ]]; then
      ((SECONDS - last >= 10)) || continue
      line="    ${BASH_REMATCH[1]} ${BASH_REMATCH[2]##* }"
      last=$SECONDS
    fi
    [[ $line == 'ninja: no work to do.' || $line == *directories... ]] || printf '%s\n' "$line"
  done
}

# On a terminal Ninja's own one-line progress; elsewhere a line now and then, so that a log shows
# that the build lives without holding a line a file.
build() {
  local preset=$1 log status
  shift
  mkdir -p "$root/build"
  cmake --preset "$preset" -S "$root" >"$root/build/$preset.configure.log" 2>&1 || {
    cat "$root/build/$preset.configure.log"
    return 1
  }
  if [[ -t 1 ]]; then
    cmake --build "$root/build/$preset" "$@"
    return
  fi
  log=$root/build/$preset.build.log
  cmake --build "$root/build/$preset" "$@" 2>&1 | tee "$log" | show_now_and_then
  status=${PIPESTATUS[0]}
  return "$status"
}
