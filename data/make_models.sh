#!/usr/bin/env bash
# Makes everything below data/ that is made: corpus/, model/, moses.ini. Run from data/:
#
#   MOSES=/path/to/mosesdecoder ./make_models.sh
#
# Needs sacremoses and eflomal (pip install sacremoses==0.2.0 eflomal==2.0.0) and a built Moses.
set -euo pipefail
cd "$(dirname "$0")"
: "${MOSES:?the folder of a built Moses}"
export LC_ALL=C

python generate_corpus.py

# Word alignment: both directions, then Moses' symmetrisation.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
eflomal-align -s corpus/train.en -t corpus/train.fr --model 3 \
    -f "$work/forward" -r "$work/reverse" --overwrite
python symmetrise.py "$work/forward" "$work/reverse" corpus/train.en corpus/train.fr > "$work/bal"
"$MOSES/bin/symal" -alignment=grow -diagonal=yes -final=yes -both=yes < "$work/bal" \
    | sed 's/.*{##} //' > corpus/aligned.grow-diag-final-and

# Language model, phrase table, reordering table, moses.ini: lmplz, train-model.perl steps 4 to 9.
rm -rf model && mkdir model
"$MOSES/bin/lmplz" -o 4 --discount_fallback -S 10% -T "$work/" < corpus/train.fr \
    | gzip -n9 > model/lm.fr.arpa.gz
perl "$MOSES/scripts/training/train-model.perl" -root-dir "$work/train" -model-dir "$PWD/model" \
    -corpus "$PWD/corpus/train" -f en -e fr -alignment grow-diag-final-and \
    -alignment-file "$PWD/corpus/aligned" -first-step 4 -last-step 9 -max-phrase-length 5 \
    -reordering msd-bidirectional-fe -lm "0:4:$PWD/model/lm.fr.arpa.gz:8" -cores 1

# gz without time stamps, paths relative to data/.
for table in phrase-table reordering-table.wbe-msd-bidirectional-fe; do
    gzip -d "model/$table.gz"
    gzip -n9 "model/$table"
done
sed "s|$PWD/||" model/moses.ini > moses.ini
rm model/moses.ini model/lex.* model/extract.*
