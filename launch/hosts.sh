#!/usr/bin/env bash
# launch/hosts.sh [--dry-run] HOSTFILE shards_dir=DIR run_dir=DIR …: train on the hosts of HOSTFILE, HOST slots=RANKS.
#
# The same command resumes. SIGTERM, SIGUSR1 and Ctrl-C save and leave; given twice they end everything at once. To set:
# LAUNCHER=ssh|pdsh, MASTER_PORT of the first host, MIN_HOSTS to go on with (all). The rest stands in launch/env.sh.
set -euo pipefail
launch=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=launch/hosts/hostfile.sh
source "$launch/hosts/hostfile.sh"
# shellcheck source=launch/hosts/remote.sh
source "$launch/hosts/remote.sh"
environment=$(portable_environment) # before env.sh: what it finds on this host need not be on the others
# shellcheck source=launch/env.sh
source "$launch/env.sh"
: "${LAUNCHER:=ssh}" "${MASTER_PORT:=29400}"
read -ra ssh_options <<<"$SSH_OPTIONS"
die() { echo "error: $*" >&2 && exit 2; }

# 1. What is asked for.
dry_run=
if [[ ${1:-} == --dry-run ]]; then dry_run=yes && shift; fi
if (($# < 2)) || [[ $1 == *=* ]]; then sed -n '2s/^# //p' "${BASH_SOURCE[0]}" >&2 && exit 2; fi
hostfile=$1 run_dir= && shift
read_hostfile "$hostfile"
: "${MIN_HOSTS:=${#hosts[@]}}"
[[ $MIN_HOSTS =~ ^[1-9][0-9]*$ && $MIN_HOSTS -le ${#hosts[@]} ]] || die "MIN_HOSTS=$MIN_HOSTS: not 1 to ${#hosts[@]}"
[[ $LAUNCHER == ssh || $LAUNCHER == pdsh ]] || die "LAUNCHER=$LAUNCHER: must be ssh or pdsh"
command -v "$LAUNCHER" >/dev/null || die "LAUNCHER=$LAUNCHER: no such command here; install it or take the other"
for argument; do [[ $argument != run_dir=* ]] || run_dir=$(realpath -m "${argument#run_dir=}"); done
[[ -n $run_dir ]] || die "run_dir is missing: give run_dir=DIR, on a file system that all hosts share"
job=$run_dir/launch-$(date +%Y%m%d-%H%M%S)-$$

# 2. Whether it can be: all hosts are tried at once, before anything starts.
if [[ -z $dry_run ]]; then
  { mkdir -p "$run_dir" && mkdir -m 700 "$job"; } || die "run_dir=$run_dir: cannot be written; name another"
  trap 'rm -rf "$job"' EXIT
  echo "$environment" >"$job/environment"
  for number in "${!hosts[@]}"; do check_host "$number" >"$job/$number.check" 2>&1 & checks[number]=$!; done
  for number in "${!hosts[@]}"; do
    wait "${checks[number]}" && continue
    echo "error: host ${hosts[number]} ($hostfile, line ${lines[number]}): $(<"$job/$number.check")" >&2
    unset "hosts[number]" "slots[number]"
  done
  ((${#hosts[@]} >= MIN_HOSTS)) || die "${#hosts[@]} hosts can train, but MIN_HOSTS=$MIN_HOSTS; nothing was started"
  found=("${!hosts[@]}") hosts=("${hosts[@]}") slots=("${slots[@]}")
  free=$(<"$job/${found[0]}.check")
  [[ $free == "$MASTER_PORT" ]] || die "MASTER_PORT=$MASTER_PORT is in use on ${hosts[0]}; MASTER_PORT=$free is free"
fi
check=("$PYTHON" -m pretrain.check "world_size=$(($(IFS=+ && echo "${slots[*]}")))" "$@")
if [[ -n $dry_run ]]; then printf '%q ' "${check[@]}" && echo; else "${check[@]}"; fi

# 3. torchrun on each host. The first one holds the rendezvous.
start() {
  local command=("$PYTHON" -m torch.distributed.run --nnodes "$MIN_HOSTS:${#hosts[@]}" --nproc-per-node "${slots[$1]}"
    --local-addr "${hosts[$1]}" --rdzv-backend c10d --rdzv-endpoint "${hosts[0]}:$MASTER_PORT" --rdzv-id "${job##*/}"
    --rdzv-conf "$PET_RDZV_CONF,is_host=$(($1 == 0))" -m pretrain "${@:2}")
  [[ -z $dry_run ]] || { printf '%s' "${hosts[$1]}, by $LAUNCHER:" && printf ' %q' "${command[@]}" && echo && return; }
  trap '' TERM HUP USR1 # a signal to the whole process group must not cut the connection over which ranks are told
  remote "$1" run "$PWD" "$1" "${hosts[$1 ? 0 : -1]}" "${command[@]}" 2>&1 | sed -u "s/^/${hosts[$1]}: /"
}
if [[ -n $dry_run ]]; then for number in "${!hosts[@]}"; do start "$number" "$@"; done && exit; fi
declare -A running=()
everywhere() { local each && for each in "${running[@]}"; do "$1" "$each" & done; }
wishes=0 finished=0
trap 'if ((wishes++)); then everywhere end_host; else everywhere stop_host; fi' INT TERM HUP USR1
for number in "${!hosts[@]}"; do ((wishes)) || { start "$number" "$@" & running[$!]=$number; }; done

# 4. Until all have ended: of themselves, on request, or because too few are left.
while ((${#running[@]})); do
  code=0 ended=
  wait -n -p ended "${!running[@]}" || code=$?
  [[ -n ${ended:-} ]] || continue # a signal came
  number=${running[$ended]} && unset "running[$ended]"
  ((code)) || { finished=1 && continue; }
  echo "host ${hosts[number]}: ended with exit code $code" >&2
  end_host "$number" &
  ((finished || wishes || ${#running[@]} >= MIN_HOSTS)) || { sleep 2 && everywhere end_host; } # after their last words
done
wait
((finished))
