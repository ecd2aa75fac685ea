#!/usr/bin/env bash
# Runs a study's shards as processes on this machine and ends with its table.
#
#   launch/local.sh SHARDS STUDY [OPTION ...]
#   launch/local.sh 2 dying_relu --scale smoke --out runs/demo
#
# A shard that waits for others (exit code 75) is started again; any other failure stops the launch
# with that code. Running it again resumes.
set -euo pipefail

if [ "$#" -lt 2 ] || ! [[ $1 =~ ^[1-9][0-9]*$ ]]; then
  sed -n '2,8s/^# \{0,1\}//p' "$0" >&2
  exit 2
fi
shards=$1 study=$2
shift 2
python=${PYTHON:-python}
again=75

# Runs one shard to its end; a TERM reaches the study, which keeps what is finished.
run_shard() {
  local shard=$1 child='' code
  shift
  trap 'kill -TERM "$child" 2>/dev/null || true; wait "$child" || true; exit "$again"' TERM
  while true; do
    "$python" -m "experiments.$study" "$@" --shard "$shard/$shards" >/dev/null &
    child=$!
    code=0
    wait "$child" || code=$?
    [ "$code" -eq "$again" ] || return "$code"
    sleep 2
  done
}

pids=()
trap 'kill -TERM "${pids[@]}" 2>/dev/null || true; wait || true; exit "$again"' INT TERM
for ((shard = 0; shard < shards; shard++)); do
  run_shard "$shard" "$@" &
  pids+=("$!")
done
for _ in "${pids[@]}"; do
  code=0
  wait -n || code=$?
  if [ "$code" -ne 0 ]; then
    kill -TERM "${pids[@]}" 2>/dev/null || true
    wait || true
    exit "$code"
  fi
done
exec "$python" -m "experiments.$study" "$@"
