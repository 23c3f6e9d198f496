# shellcheck shell=bash disable=SC2154 # set by launch/hosts.sh
# launch/hosts/remote.sh: how launch/hosts.sh reaches the hosts in the array `hosts`. Sourced; defines functions only.

# Print the environment as the hosts shall have it, to be sourced; what belongs to a machine or a login stays here.
portable_environment() {
  local name
  for name in $(compgen -e); do
    case $name in
    _ | DBUS_* | DISPLAY | HOME | HOSTNAME | LOGNAME | LS_COLORS | MAIL | OLDPWD | PWD) ;;
    SHELL | SHLVL | SSH_AUTH_SOCK | SSH_CLIENT | SSH_CONNECTION | SSH_TTY | TERM | TMUX* | USER | XDG_*) ;;
    *) printf 'export %s=%q\n' "$name" "${!name}" ;;
    esac
  done
}

# remote NUMBER ACTION …: have on_host.sh do it on a host, in at most `limit` seconds.
remote() {
  local command via
  printf -v command '%q ' bash "$launch/hosts/on_host.sh" "$2" "$job" "${@:3}"
  via=(ssh "${ssh_options[@]}" "${hosts[$1]}" "$command")
  if [[ $LAUNCHER == pdsh ]]; then
    # pdsh fills in %h and the like.
    via=(env "PDSH_SSH_ARGS_APPEND=$SSH_OPTIONS" pdsh -R ssh -b -N -S -w "${hosts[$1]}" "${command//%/%%}")
  fi
  # timeout makes a process group of its own: Ctrl-C reaches the launcher alone, which passes it on.
  timeout --kill-after=2 "${limit:-0}" "${via[@]}" </dev/null
}

# check_host NUMBER: print the port that the host has free, MASTER_PORT if it can be; or what is wrong with the host.
check_host() {
  local began answer clock port late
  began=$(date +%s)
  if ! answer=$(limit=25 remote "$1" check "$PWD" "$MASTER_PORT" 2>&1); then
    echo "${answer:-gave no answer in 25 s}"
    return 1
  fi
  read -r clock port <<<"${answer##*$'\n'}"
  late=$(($(date +%s) - began))
  if ((clock < began - 5 || clock > began + late + 5)); then
    echo "its clock is $((clock - began)) s off this one's; set it right: beyond the keep-alive in launch/env.sh" \
      "hosts look dead to each other"
    return 1
  fi
  echo "$port"
}

# stop_host NUMBER: have a host's ranks save and leave. One rank that is told is enough for all.
stop_host() {
  limit=15 remote "$1" stop "$1" || echo "host ${hosts[$1]}: cannot be told to stop" >&2
}

# end_host NUMBER: end what is left of the job on a host, or say that it cannot be done from here.
end_host() {
  limit=15 remote "$1" end "$1" >/dev/null 2>&1 ||
    echo "host ${hosts[$1]}: cannot be reached; what is left there ends after engine.collective_timeout_seconds" >&2
}
