#!/bin/sh
# One night, for cron:  nightly.sh CONFIG FOLDER [OPTIONS OF reranker-batch run]
#
# Runs CONFIG into FOLDER/YYYY-MM-DD (UTC), tries again what failed on the way, and deletes old nights once this one is
# served. It ends with the exit code of the run, or of the clean.
set -eu
config=$1
folder=$2
shift 2
night=$(date -u +%F)
for attempt in 1 2 3; do
    code=0
    reranker-batch run "$config" --set "output.path=$folder/$night" "$@" || code=$?
    [ "$code" -eq 1 ] || break      # only a failed run is worth another attempt, which resumes it
    echo "attempt $attempt failed" >&2
done
[ "$code" -eq 0 ] || exit "$code"   # 2: config or input is wrong. 3, 4: finished, but somebody must accept it
exec reranker-batch clean "$folder" --keep 7
