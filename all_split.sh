#!/bin/sh
# Train and test on every split of a dataset's folds, one run each; then print the errors, with mean and spread.
# Run again, it continues where it was stopped; a split with a test.json is finished.
#   DATA_DIR  folder of fold0.rec, fold1.rec, .. as python -m rec_tools pack writes them   (default: data)
#   RECIPE    name of a recipe in recipes/                                                 (default: mobilenet025)
#   RUNS      the runs go to $RUNS/RECIPE-SET-split0, ..; SET is the name of DATA_DIR      (default: runs)
#   SPLITS    such as "0 1"                   (default: all; five of ten folds, else as many as there are folds)
#   GPUS      such as 0,1; empty: the CPU
# Further arguments are passed on to train.py: sh all_split.sh optimizer.lr=0.001
set -eu
cd "$(dirname "$0")"

PYTHON=${PYTHON:-.venv/bin/python}
DATA_DIR=${DATA_DIR:-data}
RECIPE=${RECIPE:-mobilenet025}
RUNS=${RUNS:-runs}
recipe="recipes/$RECIPE.yaml"

[ -x "$PYTHON" ] || { echo "all_split.sh: no $PYTHON: run make first" >&2; exit 1; }
if [ ! -f "$recipe" ]; then
    echo "all_split.sh: no $recipe; choose one of: $(cd recipes && echo *.yaml | sed 's/\.yaml//g')" >&2
    exit 2
fi

all=$("$PYTHON" -m agedge.training.data.folds "$DATA_DIR")
splits=${SPLITS:-$all}
run="$RUNS/$RECIPE-$(basename "$DATA_DIR")"

for split in $splits; do
    [ ! -f "$run-split$split/test.json" ] || continue
    resume=
    [ ! -f "$run-split$split/last.ckpt" ] || resume=--resume
    echo "all_split.sh: split $split of $splits" >&2
    "$PYTHON" train.py --recipe "$recipe" --data-dir "$DATA_DIR" --split "$split" --prefix "$run-split$split" \
        --gpus "${GPUS:-}" $resume "$@"
done

set --
for split in $splits; do set -- "$@" "$run-split$split/test.json"; done
"$PYTHON" -m agedge.evaluation.split_summary "$@"
