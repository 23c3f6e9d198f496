# shellcheck shell=bash disable=SC2034 # the arrays are for launch/hosts.sh
# launch/hosts/hostfile.sh: reads DeepSpeed's hostfiles, lines of "HOST slots=RANKS". Sourced; defines a function.

# read_hostfile FILE: fill the arrays `hosts`, `slots` and `lines` (their numbers); what it cannot read ends the script.
read_hostfile() {
  local line number=0
  hosts=() slots=() lines=()
  [[ -r $1 ]] || die "$1: no such hostfile"
  while IFS= read -r line || [[ -n $line ]]; do
    number=$((number + 1))
    line=${line%%#*}
    [[ $line =~ [^[:space:]] ]] || continue
    [[ $line =~ ^[[:space:]]*([A-Za-z0-9][A-Za-z0-9._-]*)[[:space:]]+slots=([1-9][0-9]*)[[:space:]]*$ ]] ||
      die "$1, line $number: '$line' is not of the form HOST slots=RANKS"
    [[ " ${hosts[*]} " != *" ${BASH_REMATCH[1]} "* ]] || die "$1, line $number: ${BASH_REMATCH[1]} is there twice"
    hosts+=("${BASH_REMATCH[1]}") slots+=("${BASH_REMATCH[2]}") lines+=("$number")
  done <"$1"
  ((${#hosts[@]})) || die "$1: names no host"
}
