#!/bin/sh
# For TRAINING:custom-phrase-table-pruning of Moses' EMS (experiment.perl): reads the phrase table
# IN.gz, writes OUT.gz, the same table with a model's score as one more column.
#
#   rescore-hook.sh IN OUT
#
#   PHRASE_SCORER_MODEL          the model directory
#   PHRASE_SCORER_OPTIONS        more options of `phrase-scorer rescore`, separated by blanks
#   PHRASE_SCORER_TRAIN_OPTIONS  where this is set (to "", too) and there is no such model: train it
#                                first, on IN.gz, with these options of `phrase-scorer train`;
#                                PHRASE_SCORER_MODEL is then OUT.rnn where it is not set
#   PHRASE_SCORER                the program
#
# EMS does not look at exit codes: a step has crashed where its standard error says "error",
# "killed", "exit code" and the like, even within a word of the table that a warning quotes. So all
# that is said goes into OUT.log, and to standard error only upon failure.
set -uf

program=phrase-scorer
program=${PHRASE_SCORER:-$program}

fail() {
    echo "error: $1" >&2
    exit "${2:-1}"
}

run() {
    "$program" "$@" >>"$log" 2>&1 && return
    code=$?
    cat "$log" >&2
    fail "phrase-scorer $1 ended with exit code $code" "$code"
}

[ $# -eq 2 ] || fail "usage: rescore-hook.sh IN OUT, not: rescore-hook.sh $*" 2
[ -n "${PHRASE_SCORER_MODEL:-}${PHRASE_SCORER_TRAIN_OPTIONS+set}" ] ||
    fail "neither PHRASE_SCORER_MODEL nor PHRASE_SCORER_TRAIN_OPTIONS is set" 2
[ -f "$1.gz" ] || fail "$1.gz is not there (tables of factored models are not supported)"
model=${PHRASE_SCORER_MODEL:-$2.rnn}
training=$model.training # becomes the model when it is complete
log=$2.log
true >"$log" || fail "cannot write $log"

if [ ! -e "$model" ] && [ -n "${PHRASE_SCORER_TRAIN_OPTIONS+set}" ]; then
    again=--overwrite
    [ ! -e "$training/training_state.safetensors" ] || again=--resume
    # shellcheck disable=SC2086 # options are separated by blanks
    run train "$1.gz" --model "$training" $again --quiet $PHRASE_SCORER_TRAIN_OPTIONS
    mv "$training" "$model" || fail "cannot rename $training"
fi
# shellcheck disable=SC2086
run rescore "$1.gz" "$2.gz" --model "$model" --quiet ${PHRASE_SCORER_OPTIONS:-}
