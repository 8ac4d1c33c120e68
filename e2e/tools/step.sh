#!/usr/bin/env bash
# Runs one step of a longer build, saying when it starts, and how long it took when it ends.
#   e2e/tools/step.sh NAME COMMAND [ARGUMENT..]
set -uo pipefail
name=$1
shift
printf '\n==> %s: %s\n' "$name" "$*"
start=$SECONDS
"$@"
status=$?
if [ $status = 0 ]; then word=done; else word="FAILED ($status)"; fi
printf '<== %s: %s in %d:%02d\n' "$name" "$word" $(((SECONDS - start) / 60)) $(((SECONDS - start) % 60))
exit $status
