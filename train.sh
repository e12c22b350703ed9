#!/bin/sh
# Train on IMDB, then fine-tune on WIKI.
#   DATA_DIR  folder that holds imdb_crop/ and wiki_crop/ as they are distributed   (default: data)
#   RECIPE    a recipe of recipes/, by its name                                    (default: mobilenet025)
#   GPUS      such as 0,1; empty: the CPU
#   DEMO=1    draw both sets instead, some thousand faces
set -eu
cd "$(dirname "$0")"

PYTHON=${PYTHON:-.venv/bin/python}
DATA_DIR=${DATA_DIR:-data${DEMO:+/drawn}}
RECIPE=${RECIPE:-mobilenet025}
RUNS=${RUNS:-runs}
PACKED=${PACKED:-$DATA_DIR/packed}
recipe="recipes/$RECIPE.yaml"

[ -x "$PYTHON" ] || { echo "train.sh: no $PYTHON: run make first" >&2; exit 1; }
[ -f "$recipe" ] || { echo "train.sh: no $recipe; there are: $(cd recipes && ls ./*.yaml | sed 's/\.yaml//; s/^\.\///' | tr '\n' ' ')" >&2; exit 2; }

if [ -n "${DEMO:-}" ]; then
    # What a laptop does in two minutes: few faces, few epochs, a small input.
    FACES=${FACES:-3000}
    quick="network.size=64 network.stem_stride=2 train.epochs=${EPOCHS:-16} train.batch_size=32 optimizer.warmup=20"
    "$PYTHON" -m rec_tools draw --out "$DATA_DIR/imdb_crop" --name imdb --faces "$FACES" --seed 1
    "$PYTHON" -m rec_tools draw --out "$DATA_DIR/wiki_crop" --name wiki --faces "$((FACES / 2))" --seed 2
    dataset=drawn align=none
else
    quick=
    dataset=imdb_wiki align=mtcnn
    for set in imdb wiki; do
        [ -f "$DATA_DIR/${set}_crop/$set.mat" ] || {
            cat >&2 <<END
train.sh: $DATA_DIR/${set}_crop/$set.mat: missing.
IMDB-WIKI is distributed by the Computer Vision Lab of ETH Zurich (search for "IMDB-WIKI 500k+"), for academic research
only. Take the two archives of cropped faces, imdb_crop.tar and wiki_crop.tar, unpack both into $DATA_DIR/, and
run this again; DATA_DIR=... names another folder. DEMO=1 sh train.sh shows the same steps on drawn faces.
END
            exit 1
        }
    done
fi

for set in imdb wiki; do
    [ -f "$PACKED/$set/train.rec" ] || "$PYTHON" -m rec_tools pack "$dataset" --name "$set" \
        --root "$DATA_DIR/${set}_crop" --out "$PACKED/$set" --split train=0.9,val=0.1 --align "$align" --crop utkface
done

# resume NAME: --resume where a run of that name was begun
resume() { if [ -f "$RUNS/$1/last.ckpt" ]; then echo --resume; fi; }

# shellcheck disable=SC2046,SC2086  # the words of $quick and of resume are separate arguments
"$PYTHON" train.py --recipe "$recipe" --gpus "${GPUS:-}" $(resume "$RECIPE-imdb") $quick \
    data.train="$PACKED/imdb/train.rec" data.val="$PACKED/imdb/val.rec" run.dir="$RUNS/$RECIPE-imdb" "$@"
# The rate of fine-tuning is a tenth of the recipe's.
# shellcheck disable=SC2046,SC2086
"$PYTHON" train.py --recipe "$recipe" --gpus "${GPUS:-}" $(resume "$RECIPE-wiki") $quick optimizer.lr=0.0003 \
    data.train="$PACKED/wiki/train.rec" data.val="$PACKED/wiki/val.rec" run.dir="$RUNS/$RECIPE-wiki" \
    --pretrained "$RUNS/$RECIPE-imdb" "$@"
