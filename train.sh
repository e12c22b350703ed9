#!/bin/sh
# Train on IMDB, then fine-tune on WIKI. Run again to go on where it was stopped.
#   DATA_DIR  folder of imdb_crop/ and wiki_crop/ as they are distributed           (default: data)
#   RECIPE    the name of a recipe of recipes/                                      (default: mobilenet025)
#             RECIPE_wiki fine-tunes where it exists, else RECIPE at a tenth of its learning rate
#   GPUS      such as 0,1; empty: the CPU
#   DEMO=1    draw both sets instead: FACES=3000 faces, EPOCHS=30, a small input
# Arguments are passed to train.py: sh train.sh optimizer.lr=0.001
set -eu
cd "$(dirname "$0")"

PYTHON=${PYTHON:-.venv/bin/python}
DATA_DIR=${DATA_DIR:-data${DEMO:+/drawn}}
RECIPE=${RECIPE:-mobilenet025}
RUNS=${RUNS:-runs}
recipe="recipes/$RECIPE.yaml"

[ -x "$PYTHON" ] || { echo "train.sh: no $PYTHON: run make first" >&2; exit 1; }
if [ ! -f "$recipe" ]; then
    echo "train.sh: no $recipe; choose one of $(cd recipes && echo *.yaml | sed 's/\.yaml//g')" >&2
    exit 2
fi

values=$("$PYTHON" -m agedge.training.show_recipe --recipe "$recipe" \
    --get scenes.backgrounds --get scenes.photographs --get network.size --default 112 --get optimizer.lr)
{ read -r backgrounds; read -r photographs; read -r size; read -r lr; } <<END
$values
END
if [ -n "$backgrounds$photographs" ]; then
    echo "train.sh: $recipe trains a detector, on other data: python train.py --recipe $recipe; see docs/detection.md" >&2
    exit 2
fi

# Faces are packed at 112 pixels, or at the network's size where that is larger; all recipes share the packed sets.
[ "$size" -gt 112 ] || size=112
PACKED=${PACKED:-$DATA_DIR/packed$([ "$size" = 112 ] || echo "-$size")}

quick=
dataset="imdb_wiki --align mtcnn --crop utkface --size $size"
if [ -n "${DEMO:-}" ]; then
    dataset="drawn faces=${FACES:-3000}"
    quick="train.epochs=${EPOCHS:-30} train.batch_size=32 optimizer.warmup=20"
    case $RECIPE in mobilenet*) quick="network.size=64 network.stem_stride=2 $quick" ;; esac
fi

for set in imdb wiki; do
    if [ -z "${DEMO:-}" ] && [ ! -f "$DATA_DIR/${set}_crop/$set.mat" ]; then
        cat >&2 <<END
train.sh: $DATA_DIR/${set}_crop/$set.mat: missing.
IMDB-WIKI is distributed by the Computer Vision Lab of ETH Zurich (search for "IMDB-WIKI 500k+"), for academic research
only. Take the two archives of cropped faces, imdb_crop.tar and wiki_crop.tar, unpack both into $DATA_DIR/, and
run this again; DATA_DIR=... names another folder. DEMO=1 sh train.sh shows the same steps on drawn faces.
END
        exit 1
    fi
    # shellcheck disable=SC2086  # $dataset is several arguments
    [ -f "$PACKED/$set/train.rec" ] || "$PYTHON" -m rec_tools pack $dataset ${DEMO:+name=$set} \
        --root "$DATA_DIR/${set}_crop" --out "$PACKED/$set" --split train=0.9,val=0.1
done

# train SET RECIPE [ARGUMENT...]: a run on a packed set, resumed where one was begun
train() {
    set=$1
    file=$2
    shift 2
    run="$RUNS/$RECIPE-$set"
    if [ -f "$run/last.ckpt" ]; then set -- --resume "$@"; fi
    # shellcheck disable=SC2086
    "$PYTHON" train.py --recipe "$file" --gpus "${GPUS:-}" $quick \
        data.train="$PACKED/$set/train.rec" data.val="$PACKED/$set/val.rec" run.dir="$run" "$@"
}

train imdb "$recipe" "$@"
# Fine-tune from the first run's best weights.
if [ -f "recipes/${RECIPE}_wiki.yaml" ]; then
    train wiki "recipes/${RECIPE}_wiki.yaml" "$@" pretrained="$RUNS/$RECIPE-imdb" fresh=[]
else
    rate=$("$PYTHON" -c "print(0.1 * $lr)")
    train wiki "$recipe" optimizer.lr="$rate" "$@" pretrained="$RUNS/$RECIPE-imdb" fresh=[]
fi
