# Completion of postern(1) for bash.

_postern() {
  local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]}
  local -A options=(
    [check]='--json --help'
    [explain]='--from --interface --to --recipient --authenticated --json --config --help'
    [ruleset]='--config --help'
    [status]='--json --socket --config --help'
    [doctor]='--json --socket --config --help'
    [counters]='--json --socket --config --help'
    [blocked]='--limit --follow --json --socket --config --help'
    [offenders]='--limit --json --socket --config --help'
    [reload]='--json --socket --config --help'
    [drain]='--json --socket --config --help'
  )
  COMPREPLY=()

  if ((COMP_CWORD == 1)); then
    mapfile -t COMPREPLY < <(compgen -W "${!options[*]} --help --version" -- "$word")
    return
  fi
  case $before in
  --config | --socket)
    mapfile -t COMPREPLY < <(compgen -f -- "$word")
    compopt -o filenames 2>/dev/null
    return
    ;;
  --interface)
    mapfile -t COMPREPLY < <(compgen -W "$(command ls /sys/class/net 2>/dev/null)" -- "$word")
    return
    ;;
  --from | --to | --recipient | --limit)
    return
    ;;
  esac
  if [[ ${COMP_WORDS[1]} == check && $word != -* ]]; then
    mapfile -t COMPREPLY < <(compgen -f -- "$word")
    compopt -o filenames 2>/dev/null
    return
  fi
  mapfile -t COMPREPLY < <(compgen -W "${options[${COMP_WORDS[1]}]:-}" -- "$word")
}

complete -F _postern postern
