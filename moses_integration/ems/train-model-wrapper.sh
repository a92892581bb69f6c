#!/bin/sh
# For TRAINING:script of Moses' EMS (experiment.perl): runs train-model.perl with the same
# arguments, then makes the moses.ini that it wrote (-config FILE) fit the phrase tables it names.
# train-model.perl counts 4 scores a table whatever stands in it.
#
#   MOSES_SCRIPTS              Moses' scripts
#   PHRASE_SCORER_INI_OPTIONS  options of `phrase-scorer ini`, separated by blanks: --weight 0.2
#   PHRASE_SCORER              the program
#
# EMS takes "error" and the like on standard error for a crash; what went well is told on standard
# output.
set -uf

program=phrase-scorer
program=${PHRASE_SCORER:-$program}

if [ -z "${MOSES_SCRIPTS:-}" ]; then
    echo "error: MOSES_SCRIPTS is not set: the folder of Moses' scripts" >&2
    exit 2
fi
"$MOSES_SCRIPTS/training/train-model.perl" "$@" || exit

config=
while [ $# -gt 0 ]; do
    case $1 in
    -config | --config) config=${2:-} ;;
    -config=* | --config=*) config=${1#*=} ;;
    esac
    shift
done
[ -n "$config" ] || exit 0
# shellcheck disable=SC2086 # options are separated by blanks
if said=$("$program" ini "$config" --in-place ${PHRASE_SCORER_INI_OPTIONS:-} 2>&1); then
    echo "$said"
else
    code=$?
    echo "$said" >&2
    echo "error: phrase-scorer ini ended with exit code $code" >&2
    exit "$code"
fi
